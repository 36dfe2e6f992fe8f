//! Finds a container for those who want its log or a stream to it.

use super::config;
use crate::config::Paths;
use crate::runtime::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID, Runtime};
use kybern_api::error::Status;
use std::path::PathBuf;
use std::sync::Arc;

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

/// Looks containers up in the runtime, by their labels.
#[derive(Clone)]
pub struct RuntimeContainers {
    runtime: Arc<dyn Runtime>,
    paths: Paths,
}

impl RuntimeContainers {
    /// Over a runtime.
    pub fn new(runtime: Arc<dyn Runtime>, paths: Paths) -> Self {
        Self { runtime, paths }
    }
}

fn label<'a>(labels: &'a std::collections::HashMap<String, String>, key: &str) -> &'a str {
    labels.get(key).map(String::as_str).unwrap_or_default()
}

fn is_pod(labels: &std::collections::HashMap<String, String>, namespace: &str, pod: &str, uid: &str) -> bool {
    label(labels, POD_NAMESPACE) == namespace
        && label(labels, POD_NAME) == pod
        && (uid.is_empty() || label(labels, POD_UID) == uid)
}

fn failed(e: crate::error::Error) -> Status {
    Status::internal(e.to_string())
}

#[async_trait::async_trait]
impl Containers for RuntimeContainers {
    async fn find(
        &self,
        namespace: &str,
        pod: &str,
        uid: &str,
        container: &str,
        previous: bool,
    ) -> Result<ContainerRef, Status> {
        let of_pod = Some(uid).filter(|u| !u.is_empty());
        let mut all = self.runtime.containers(of_pod).await.map_err(failed)?;
        all.retain(|c| is_pod(&c.labels, namespace, pod, uid));
        if !container.is_empty() {
            all.retain(|c| label(&c.labels, CONTAINER_NAME) == container);
        }
        all.sort_by_key(|c| std::cmp::Reverse((c.metadata.as_ref().map_or(0, |m| m.attempt), c.created_at)));
        let found = all.into_iter().nth(usize::from(previous)).ok_or_else(|| {
            let what = if previous { "previous terminated container" } else { "container" };
            Status::bad_request(format!("{what} {container:?} in pod {pod:?} not found"))
        })?;
        let name = label(&found.labels, CONTAINER_NAME);
        let attempt = found.metadata.as_ref().map_or(0, |m| m.attempt);
        let dir = self.paths.pod_logs(namespace, pod, label(&found.labels, POD_UID));
        Ok(ContainerRef {
            running: found.state() == kybern_wire::cri::ContainerState::ContainerRunning,
            log_path: dir.join(config::log_path(name, attempt)),
            sandbox_id: found.pod_sandbox_id,
            id: found.id,
        })
    }

    async fn sandbox(&self, namespace: &str, pod: &str, uid: &str) -> Result<String, Status> {
        let all = self.runtime.sandboxes(Some(uid).filter(|u| !u.is_empty())).await.map_err(failed)?;
        let latest = all
            .into_iter()
            .filter(|s| is_pod(&s.labels, namespace, pod, uid))
            .max_by_key(|s| (s.metadata.as_ref().map_or(0, |m| m.attempt), s.created_at));
        latest.map(|s| s.id).ok_or_else(|| Status::not_found("", "pods", pod))
    }

    async fn sandbox_pid(&self, sandbox: &str) -> Result<i32, Status> {
        let answer = self.runtime.sandbox_status(sandbox, true).await.map_err(failed)?;
        let info: serde_json::Value =
            answer.info.get("info").and_then(|i| serde_json::from_str(i).ok()).unwrap_or_default();
        let pid = info.get("pid").and_then(serde_json::Value::as_i64).and_then(|p| i32::try_from(p).ok());
        pid.filter(|p| *p > 0).ok_or_else(|| Status::internal(format!("sandbox {sandbox} is not running")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake::Fake;
    use kybern_wire::cri as pb;
    use std::path::Path;

    #[tokio::test]
    async fn present_and_previous_instances() {
        let fake = Arc::new(Fake::default());
        let labels = [(POD_NAMESPACE, "ns"), (POD_NAME, "p"), (POD_UID, "u"), (CONTAINER_NAME, "c")];
        for attempt in [0, 1] {
            let config = pb::ContainerConfig {
                metadata: Some(pb::ContainerMetadata { name: "c".into(), attempt }),
                labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                ..Default::default()
            };
            fake.create_container("s", config, pb::PodSandboxConfig::default()).await.unwrap();
        }
        let containers = RuntimeContainers::new(fake, Paths::new(Path::new("/d"), Path::new("/s")));
        let of = |container: &'static str, previous| {
            let containers = &containers;
            async move { containers.find("ns", "p", "", container, previous).await }
        };
        assert_eq!(of("c", false).await.unwrap().log_path, Path::new("/d/logs/ns_p_u/c/1.log"));
        assert_eq!(of("", true).await.unwrap().log_path, Path::new("/d/logs/ns_p_u/c/0.log"));
        assert_eq!(of("x", false).await.unwrap_err().code, 400);
    }
}
