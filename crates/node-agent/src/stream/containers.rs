//! How containers are found.

use kybern_api::error::Status;
use std::path::PathBuf;

/// A container of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRef {
    /// Runtime id.
    pub id: String,
    /// Id of its sandbox.
    pub sandbox_id: String,
    /// Its log (CRI format).
    pub log_path: PathBuf,
    /// Is it running?
    pub running: bool,
}

/// Looks containers up.
#[async_trait::async_trait]
pub trait Containers: Send + Sync + 'static {
    /// The present instance of a container, or the one before. An empty `uid` means any, an empty
    /// `container` the pod's only one.
    ///
    /// # Errors
    /// 404 when the pod is not here, 400 when the container is not in it.
    async fn find(
        &self,
        namespace: &str,
        pod: &str,
        uid: &str,
        container: &str,
        previous: bool,
    ) -> Result<ContainerRef, Status>;
    /// The pod's sandbox (for port-forward).
    ///
    /// # Errors
    /// 404 when the pod is not here.
    async fn sandbox(&self, namespace: &str, pod: &str, uid: &str) -> Result<String, Status>;
    /// The process that holds the pod's network namespace (`/proc/PID/ns/net`).
    ///
    /// # Errors
    /// When the sandbox does not run.
    async fn sandbox_pid(&self, sandbox: &str) -> Result<i32, Status>;
}
