//! The container runtime: the CRI as a seam, its client, the containerd behind it, and a fake.

pub mod containerd;
pub mod cri;
pub mod engine;
pub mod events;
pub mod fake;
pub mod pause;

use crate::error::Result;
use kybern_wire::cri as pb;
use std::time::Duration;

/// Label of sandboxes and containers: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label of sandboxes and containers: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label of sandboxes and containers: the pod's uid. What carries it belongs to that pod, also after
/// an agent restart.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label of containers: the name in the pod.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// What the agent asks of a container runtime. The messages are CRI v1's own.
#[async_trait::async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version.
    async fn version(&self) -> Result<pb::VersionResponse>;
    /// Conditions `RuntimeReady` and `NetworkReady`.
    async fn status(&self) -> Result<Vec<pb::RuntimeCondition>>;

    /// Creates and starts a sandbox under a runtime handler (empty: the default); its id.
    async fn run_sandbox(&self, config: pb::PodSandboxConfig, handler: &str) -> Result<String>;
    /// Stops a sandbox and everything in it; idempotent.
    async fn stop_sandbox(&self, id: &str) -> Result<()>;
    /// Removes a stopped sandbox and its containers; idempotent.
    async fn remove_sandbox(&self, id: &str) -> Result<()>;
    /// All sandboxes, or one pod's.
    async fn sandboxes(&self, pod_uid: Option<&str>) -> Result<Vec<pb::PodSandbox>>;
    /// One sandbox; with `verbose`, the map holds the runtime's own information.
    async fn sandbox_status(&self, id: &str, verbose: bool) -> Result<pb::PodSandboxStatusResponse>;

    /// Creates a container in a sandbox; its id.
    async fn create_container(
        &self,
        sandbox: &str,
        config: pb::ContainerConfig,
        sandbox_config: pb::PodSandboxConfig,
    ) -> Result<String>;
    /// Starts a created container.
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Sends the stop signal, waits up to `grace`, then kills; idempotent.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    /// Gives a running container other resources.
    async fn update_container(&self, id: &str, resources: pb::LinuxContainerResources) -> Result<()>;
    /// Lets the runtime open a container's log file anew, after it was renamed.
    async fn reopen_log(&self, id: &str) -> Result<()>;
    /// Removes a stopped container; idempotent.
    async fn remove_container(&self, id: &str) -> Result<()>;
    /// All containers, or one pod's.
    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<pb::Container>>;
    /// One container.
    async fn container_status(&self, id: &str) -> Result<pb::ContainerStatus>;
    /// Use of resources of all containers.
    async fn container_stats(&self) -> Result<Vec<pb::ContainerStats>>;

    /// Runs a command in a container and waits for its end, at most `timeout`.
    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<pb::ExecSyncResponse>;
    /// The streaming URL of a command in a container.
    async fn exec_url(&self, request: pb::ExecRequest) -> Result<String>;
    /// The streaming URL of a container's own process.
    async fn attach_url(&self, request: pb::AttachRequest) -> Result<String>;
    /// The streaming URL of ports in a sandbox.
    async fn port_forward_url(&self, request: pb::PortForwardRequest) -> Result<String>;

    /// The image a reference names, if it is there.
    async fn image(&self, reference: &str) -> Result<Option<pb::Image>>;
    /// All images.
    async fn images(&self) -> Result<Vec<pb::Image>>;
    /// Pulls an image; its id.
    async fn pull(&self, reference: &str, auth: Option<pb::AuthConfig>) -> Result<String>;
    /// Removes an image; idempotent.
    async fn remove_image(&self, reference: &str) -> Result<()>;
    /// Disk use of images: bytes.
    async fn image_bytes(&self) -> Result<u64>;
}
