//! CRI v1 over a Unix socket.

use super::{POD_UID, Runtime};
use crate::error::{Error, Result};
use kybern_wire::cri as pb;
use pb::image_service_client::ImageServiceClient;
use pb::runtime_service_client::RuntimeServiceClient;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// Longest answer the agent reads: a list of a few thousand containers with their annotations.
const MAX_MESSAGE: usize = 16 << 20;
/// A call that takes longer hangs; the pod's next plan starts from what is there.
const CALL: Duration = Duration::from_secs(120);
/// Pulls report their own stalls; this bounds a runtime that reports nothing.
const PULL: Duration = Duration::from_secs(30 * 60);

/// A gRPC channel to a Unix socket; connects on first use and again after a failure.
///
/// # Errors
/// When the path is no valid address.
pub fn channel(socket: &Path) -> Result<Channel> {
    let uri = format!("unix://{}", socket.display());
    let endpoint = Endpoint::from_shared(uri).map_err(|e| Error::RuntimeStart(e.to_string()))?;
    Ok(endpoint.connect_lazy())
}

/// A CRI client.
#[derive(Debug, Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Cri {
    /// A client on a channel.
    pub fn new(channel: Channel) -> Self {
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
        }
    }
}

/// Awaits an answer within a limit.
async fn within<T>(
    limit: Duration,
    call: &'static str,
    answer: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map(tonic::Response::into_inner).map_err(Error::runtime(call)),
        Err(_) => Err(Error::Runtime {
            call,
            code: tonic::Code::DeadlineExceeded,
            message: format!("{call} did not answer within {} s", limit.as_secs()),
        }),
    }
}

/// Turns "there is no such thing" into success, for calls that undo.
fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(e) if e.is_not_found() => Ok(()),
        other => other,
    }
}

fn of_pod(uid: Option<&str>) -> HashMap<String, String> {
    uid.map(|u| (POD_UID.to_owned(), u.to_owned())).into_iter().collect()
}

fn image_spec(reference: &str) -> Option<pb::ImageSpec> {
    Some(pb::ImageSpec { image: reference.to_owned(), ..Default::default() })
}

#[async_trait::async_trait]
impl Runtime for Cri {
    async fn version(&self) -> Result<pb::VersionResponse> {
        let request = pb::VersionRequest { version: "v1".into() };
        within(CALL, "Version", self.runtime.clone().version(request)).await
    }
    async fn status(&self) -> Result<Vec<pb::RuntimeCondition>> {
        let answer = within(CALL, "Status", self.runtime.clone().status(pb::StatusRequest { verbose: false })).await?;
        Ok(answer.status.map(|s| s.conditions).unwrap_or_default())
    }

    async fn run_sandbox(&self, config: pb::PodSandboxConfig, handler: &str) -> Result<String> {
        let request = pb::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.into() };
        let answer = within(CALL, "RunPodSandbox", self.runtime.clone().run_pod_sandbox(request)).await?;
        Ok(answer.pod_sandbox_id)
    }
    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let request = pb::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        gone_is_fine(within(CALL, "StopPodSandbox", self.runtime.clone().stop_pod_sandbox(request)).await.map(drop))
    }
    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let request = pb::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        gone_is_fine(within(CALL, "RemovePodSandbox", self.runtime.clone().remove_pod_sandbox(request)).await.map(drop))
    }
    async fn sandboxes(&self, pod_uid: Option<&str>) -> Result<Vec<pb::PodSandbox>> {
        let filter = pb::PodSandboxFilter { label_selector: of_pod(pod_uid), ..Default::default() };
        let request = pb::ListPodSandboxRequest { filter: Some(filter) };
        Ok(within(CALL, "ListPodSandbox", self.runtime.clone().list_pod_sandbox(request)).await?.items)
    }
    async fn sandbox_status(&self, id: &str, verbose: bool) -> Result<pb::PodSandboxStatusResponse> {
        let request = pb::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose };
        within(CALL, "PodSandboxStatus", self.runtime.clone().pod_sandbox_status(request)).await
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: pb::ContainerConfig,
        sandbox_config: pb::PodSandboxConfig,
    ) -> Result<String> {
        let request = pb::CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(within(CALL, "CreateContainer", self.runtime.clone().create_container(request)).await?.container_id)
    }
    async fn start_container(&self, id: &str) -> Result<()> {
        let request = pb::StartContainerRequest { container_id: id.into() };
        within(CALL, "StartContainer", self.runtime.clone().start_container(request)).await.map(drop)
    }
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = whole_seconds(grace);
        let request = pb::StopContainerRequest { container_id: id.into(), timeout };
        let limit = grace.saturating_add(CALL);
        gone_is_fine(within(limit, "StopContainer", self.runtime.clone().stop_container(request)).await.map(drop))
    }
    async fn update_container(&self, id: &str, resources: pb::LinuxContainerResources) -> Result<()> {
        let request = pb::UpdateContainerResourcesRequest {
            container_id: id.into(),
            linux: Some(resources),
            ..Default::default()
        };
        within(CALL, "UpdateContainerResources", self.runtime.clone().update_container_resources(request))
            .await
            .map(drop)
    }
    async fn reopen_log(&self, id: &str) -> Result<()> {
        let request = pb::ReopenContainerLogRequest { container_id: id.into() };
        within(CALL, "ReopenContainerLog", self.runtime.clone().reopen_container_log(request)).await.map(drop)
    }
    async fn remove_container(&self, id: &str) -> Result<()> {
        let request = pb::RemoveContainerRequest { container_id: id.into() };
        gone_is_fine(within(CALL, "RemoveContainer", self.runtime.clone().remove_container(request)).await.map(drop))
    }
    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<pb::Container>> {
        let filter = pb::ContainerFilter { label_selector: of_pod(pod_uid), ..Default::default() };
        let request = pb::ListContainersRequest { filter: Some(filter) };
        Ok(within(CALL, "ListContainers", self.runtime.clone().list_containers(request)).await?.containers)
    }
    async fn container_status(&self, id: &str) -> Result<pb::ContainerStatus> {
        let request = pb::ContainerStatusRequest { container_id: id.into(), verbose: false };
        let answer = within(CALL, "ContainerStatus", self.runtime.clone().container_status(request)).await?;
        answer.status.ok_or_else(|| Error::Runtime {
            call: "ContainerStatus",
            code: tonic::Code::Internal,
            message: "the runtime answered without a status".into(),
        })
    }
    async fn container_stats(&self) -> Result<Vec<pb::ContainerStats>> {
        let request = pb::ListContainerStatsRequest::default();
        Ok(within(CALL, "ListContainerStats", self.runtime.clone().list_container_stats(request)).await?.stats)
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<pb::ExecSyncResponse> {
        let seconds = i64::try_from(timeout.as_secs().max(1)).unwrap_or(i64::MAX);
        let request = pb::ExecSyncRequest { container_id: id.into(), cmd: command.to_vec(), timeout: seconds };
        within(timeout.saturating_add(CALL), "ExecSync", self.runtime.clone().exec_sync(request)).await
    }
    async fn exec_url(&self, request: pb::ExecRequest) -> Result<String> {
        Ok(within(CALL, "Exec", self.runtime.clone().exec(request)).await?.url)
    }
    async fn attach_url(&self, request: pb::AttachRequest) -> Result<String> {
        Ok(within(CALL, "Attach", self.runtime.clone().attach(request)).await?.url)
    }
    async fn port_forward_url(&self, request: pb::PortForwardRequest) -> Result<String> {
        Ok(within(CALL, "PortForward", self.runtime.clone().port_forward(request)).await?.url)
    }

    async fn image(&self, reference: &str) -> Result<Option<pb::Image>> {
        let request = pb::ImageStatusRequest { image: image_spec(reference), verbose: false };
        Ok(within(CALL, "ImageStatus", self.images.clone().image_status(request)).await?.image)
    }
    async fn images(&self) -> Result<Vec<pb::Image>> {
        let request = pb::ListImagesRequest::default();
        Ok(within(CALL, "ListImages", self.images.clone().list_images(request)).await?.images)
    }
    async fn pull(&self, reference: &str, auth: Option<pb::AuthConfig>) -> Result<String> {
        let request = pb::PullImageRequest { image: image_spec(reference), auth, sandbox_config: None };
        Ok(within(PULL, "PullImage", self.images.clone().pull_image(request)).await?.image_ref)
    }
    async fn remove_image(&self, reference: &str) -> Result<()> {
        let request = pb::RemoveImageRequest { image: image_spec(reference) };
        gone_is_fine(within(CALL, "RemoveImage", self.images.clone().remove_image(request)).await.map(drop))
    }
    async fn image_bytes(&self) -> Result<u64> {
        let request = pb::ImageFsInfoRequest {};
        let answer = within(CALL, "ImageFsInfo", self.images.clone().image_fs_info(request)).await?;
        Ok(answer.image_filesystems.iter().filter_map(|f| f.used_bytes.as_ref()).map(|b| b.value).sum())
    }
}

/// A grace in CRI's whole seconds, never shorter than it was: what a hook has left is a fraction.
fn whole_seconds(grace: Duration) -> i64 {
    let up = grace.as_secs().saturating_add(u64::from(grace.subsec_nanos() > 0));
    i64::try_from(up).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::whole_seconds;
    use std::time::Duration;

    #[test]
    fn a_grace_is_not_shortened_by_rounding() {
        assert_eq!(whole_seconds(Duration::from_nanos(2_999_999_990)), 3);
        assert_eq!(whole_seconds(Duration::from_secs(3)), 3);
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::MAX), i64::MAX);
    }
}
