//! A runtime without containers, for tests: state in memory, failures on demand.

use super::{POD_UID, Runtime};
use crate::error::{Error, Result};
use kybern_wire::cri as pb;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the fake holds.
#[derive(Debug, Default)]
pub struct State {
    /// Sandboxes by id.
    pub sandboxes: BTreeMap<String, pb::PodSandboxStatus>,
    /// Containers by id, with their sandbox.
    pub containers: BTreeMap<String, (String, pb::ContainerStatus)>,
    /// What containers were made from, by id.
    pub configs: BTreeMap<String, pb::ContainerConfig>,
    /// Images that are there.
    pub images: BTreeSet<String>,
    /// Images a pull finds.
    pub registry: BTreeSet<String>,
    /// The password pulls need; None: none.
    pub password: Option<String>,
    /// Calls that fail, with the text of the failure.
    pub failing: BTreeMap<&'static str, String>,
    /// Every call that changes something, in order: `StartContainer c1`.
    pub calls: Vec<String>,
    /// What every container uses: bytes of memory and nanoseconds of CPU time.
    pub usage: u64,
    /// Exit code of the next exec.
    pub exec_code: i32,
    next: u64,
}

/// The fake. Times are a counter, so that later is greater.
#[derive(Debug, Default)]
pub struct Fake {
    /// What it holds; tests look and change.
    pub state: Mutex<State>,
}

impl Fake {
    /// A fake with these images present.
    pub fn with_images(images: &[&str]) -> Self {
        let fake = Self::default();
        fake.state.lock().images = images.iter().map(|s| (*s).to_owned()).collect();
        fake
    }
    /// Ends a running container.
    pub fn exit(&self, id: &str, code: i32) {
        let mut state = self.state.lock();
        let now = state.tick();
        if let Some((_, c)) = state.containers.get_mut(id) {
            c.state = pb::ContainerState::ContainerExited.into();
            c.exit_code = code;
            c.finished_at = now;
            c.reason = if code == 0 { "Completed" } else { "Error" }.into();
        }
    }
    fn act(&self, call: &'static str, subject: &str) -> Result<parking_lot::MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        state.calls.push(format!("{call} {subject}"));
        match state.failing.get(call) {
            Some(text) => Err(Error::Runtime { call, code: tonic::Code::Unknown, message: text.clone() }),
            None => Ok(state),
        }
    }
}

impl State {
    fn tick(&mut self) -> i64 {
        self.next += 1;
        i64::try_from(self.next).unwrap_or(i64::MAX) * 1_000_000_000
    }
    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }
}

fn missing(call: &'static str) -> Error {
    Error::Runtime { call, code: tonic::Code::NotFound, message: "not found".into() }
}

fn is_of(labels: &std::collections::HashMap<String, String>, uid: Option<&str>) -> bool {
    uid.is_none_or(|u| labels.get(POD_UID).is_some_and(|l| l == u))
}

#[async_trait::async_trait]
impl Runtime for Fake {
    async fn version(&self) -> Result<pb::VersionResponse> {
        Ok(pb::VersionResponse { runtime_name: "fake".into(), runtime_version: "1".into(), ..Default::default() })
    }
    async fn status(&self) -> Result<Vec<pb::RuntimeCondition>> {
        let condition = |kind: &str| pb::RuntimeCondition { r#type: kind.into(), status: true, ..Default::default() };
        Ok(vec![condition("RuntimeReady"), condition("NetworkReady")])
    }
    async fn run_sandbox(&self, config: pb::PodSandboxConfig, handler: &str) -> Result<String> {
        let metadata = config.metadata.clone().unwrap_or_default();
        let mut state = self.act("RunPodSandbox", &metadata.name)?;
        if !handler.is_empty() {
            let message = format!("no runtime for {handler:?} is configured");
            return Err(Error::Runtime { call: "RunPodSandbox", code: tonic::Code::Unknown, message });
        }
        let id = state.id("s");
        let status = pb::PodSandboxStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: pb::PodSandboxState::SandboxReady.into(),
            created_at: state.tick(),
            network: Some(pb::PodSandboxNetworkStatus { ip: "10.42.0.9".into(), ..Default::default() }),
            labels: config.labels,
            annotations: config.annotations,
            ..Default::default()
        };
        state.sandboxes.insert(id.clone(), status);
        Ok(id)
    }
    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let mut state = self.act("StopPodSandbox", id)?;
        if let Some(s) = state.sandboxes.get_mut(id) {
            s.state = pb::PodSandboxState::SandboxNotready.into();
        }
        Ok(())
    }
    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let mut state = self.act("RemovePodSandbox", id)?;
        state.sandboxes.remove(id);
        state.containers.retain(|_, (sandbox, _)| sandbox != id);
        Ok(())
    }
    async fn sandboxes(&self, pod_uid: Option<&str>) -> Result<Vec<pb::PodSandbox>> {
        let state = self.state.lock();
        let items = state.sandboxes.values().filter(|s| is_of(&s.labels, pod_uid)).map(|s| pb::PodSandbox {
            id: s.id.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            created_at: s.created_at,
            labels: s.labels.clone(),
            annotations: s.annotations.clone(),
            ..Default::default()
        });
        Ok(items.collect())
    }
    async fn sandbox_status(&self, id: &str, _verbose: bool) -> Result<pb::PodSandboxStatusResponse> {
        let status = self.state.lock().sandboxes.get(id).cloned().ok_or_else(|| missing("PodSandboxStatus"))?;
        Ok(pb::PodSandboxStatusResponse { status: Some(status), ..Default::default() })
    }
    async fn create_container(
        &self,
        sandbox: &str,
        config: pb::ContainerConfig,
        _sandbox_config: pb::PodSandboxConfig,
    ) -> Result<String> {
        let metadata = config.metadata.clone().unwrap_or_default();
        let mut state = self.act("CreateContainer", &metadata.name)?;
        let id = state.id("c");
        state.configs.insert(id.clone(), config.clone());
        let status = pb::ContainerStatus {
            id: id.clone(),
            metadata: Some(metadata),
            state: pb::ContainerState::ContainerCreated.into(),
            created_at: state.tick(),
            image_ref: config.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
            image: config.image,
            labels: config.labels,
            annotations: config.annotations,
            ..Default::default()
        };
        state.containers.insert(id.clone(), (sandbox.into(), status));
        Ok(id)
    }
    async fn start_container(&self, id: &str) -> Result<()> {
        let mut state = self.act("StartContainer", id)?;
        let now = state.tick();
        let (_, c) = state.containers.get_mut(id).ok_or_else(|| missing("StartContainer"))?;
        c.state = pb::ContainerState::ContainerRunning.into();
        c.started_at = now;
        Ok(())
    }
    async fn stop_container(&self, id: &str, _grace: Duration) -> Result<()> {
        drop(self.act("StopContainer", id)?);
        self.exit(id, 143);
        Ok(())
    }
    async fn update_container(&self, id: &str, resources: pb::LinuxContainerResources) -> Result<()> {
        let wanted = format!("{id} {} {}", resources.cpu_shares, resources.memory_limit_in_bytes);
        self.act("UpdateContainerResources", &wanted).map(drop)
    }
    async fn reopen_log(&self, id: &str) -> Result<()> {
        self.act("ReopenContainerLog", id).map(drop)
    }
    async fn remove_container(&self, id: &str) -> Result<()> {
        self.act("RemoveContainer", id)?.containers.remove(id);
        Ok(())
    }
    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<pb::Container>> {
        let state = self.state.lock();
        let items =
            state.containers.values().filter(|(_, c)| is_of(&c.labels, pod_uid)).map(|(sandbox, c)| pb::Container {
                id: c.id.clone(),
                pod_sandbox_id: sandbox.clone(),
                metadata: c.metadata.clone(),
                image: c.image.clone(),
                image_ref: c.image_ref.clone(),
                state: c.state,
                created_at: c.created_at,
                labels: c.labels.clone(),
                annotations: c.annotations.clone(),
            });
        Ok(items.collect())
    }
    async fn container_status(&self, id: &str) -> Result<pb::ContainerStatus> {
        self.state.lock().containers.get(id).map(|(_, c)| c.clone()).ok_or_else(|| missing("ContainerStatus"))
    }
    async fn container_stats(&self) -> Result<Vec<pb::ContainerStats>> {
        let state = self.state.lock();
        let value = Some(pb::UInt64Value { value: state.usage });
        let stats = state.containers.values().map(|(_, c)| pb::ContainerStats {
            attributes: Some(pb::ContainerAttributes { id: c.id.clone(), ..Default::default() }),
            cpu: Some(pb::CpuUsage { usage_core_nano_seconds: value, ..Default::default() }),
            memory: Some(pb::MemoryUsage { working_set_bytes: value, usage_bytes: value, ..Default::default() }),
            ..Default::default()
        });
        Ok(stats.collect())
    }
    async fn exec_sync(&self, id: &str, command: &[String], _timeout: Duration) -> Result<pb::ExecSyncResponse> {
        let state = self.act("ExecSync", &format!("{id} {}", command.join(" ")))?;
        Ok(pb::ExecSyncResponse { exit_code: state.exec_code, ..Default::default() })
    }
    async fn exec_url(&self, request: pb::ExecRequest) -> Result<String> {
        Ok(format!("http://127.0.0.1/exec/{}", request.container_id))
    }
    async fn attach_url(&self, request: pb::AttachRequest) -> Result<String> {
        Ok(format!("http://127.0.0.1/attach/{}", request.container_id))
    }
    async fn port_forward_url(&self, request: pb::PortForwardRequest) -> Result<String> {
        Ok(format!("http://127.0.0.1/portforward/{}", request.pod_sandbox_id))
    }
    async fn image(&self, reference: &str) -> Result<Option<pb::Image>> {
        let present = self.state.lock().images.contains(reference);
        Ok(present.then(|| pb::Image { id: format!("sha256:{reference}"), ..Default::default() }))
    }
    async fn images(&self) -> Result<Vec<pb::Image>> {
        let state = self.state.lock();
        Ok(state.images.iter().map(|i| pb::Image { id: format!("sha256:{i}"), ..Default::default() }).collect())
    }
    async fn pull(&self, reference: &str, auth: Option<pb::AuthConfig>) -> Result<String> {
        let mut state = self.act("PullImage", reference)?;
        if state.password.as_ref().is_some_and(|p| auth.is_none_or(|a| a.password != *p)) {
            let message = "pull access denied".into();
            return Err(Error::Runtime { call: "PullImage", code: tonic::Code::Unknown, message });
        }
        if !state.registry.contains(reference) {
            return Err(Error::Runtime { call: "PullImage", code: tonic::Code::NotFound, message: "not found".into() });
        }
        state.images.insert(reference.to_owned());
        Ok(format!("sha256:{reference}"))
    }
    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.act("RemoveImage", reference)?.images.remove(reference);
        Ok(())
    }
    async fn image_bytes(&self) -> Result<u64> {
        Ok(0)
    }
}
