//! What the runtime holds of one pod, read afresh before every plan.

use crate::error::Result;
use crate::runtime::{CONTAINER_NAME, Runtime};
use jiff::Timestamp;
use kybern_wire::cri as pb;
use serde::Deserialize;

/// Annotation of containers: how many times in a row it was restarted before it (see [`super::plan::backoff`]).
/// It lets a restarted agent go on with the same back-off.
pub const BACKOFF_STEP: &str = "kybern.io/backoff-step";

/// A pod as the runtime knows it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Observed {
    /// The latest sandbox.
    pub sandbox: Option<Sandbox>,
    /// Ids of earlier ones.
    pub old_sandboxes: Vec<String>,
    /// All containers, latest attempt first within a name.
    pub containers: Vec<Container>,
}

/// A sandbox.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// Runtime id.
    pub id: String,
    /// Does its network and process stand?
    pub ready: bool,
    /// Counts from 0 for each pod.
    pub attempt: u32,
    /// Pod addresses; empty in the node's network.
    pub ips: Vec<String>,
}

/// How far a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// The runtime lost it.
    #[default]
    Unknown,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Runtime id.
    pub id: String,
    /// Name in the pod.
    pub name: String,
    /// Restart count of this instance.
    pub attempt: u32,
    /// Its sandbox.
    pub sandbox: String,
    /// How far it is.
    pub state: State,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// How it ended.
    pub exit_code: i32,
    /// The runtime's word for how it ended, for example `OOMKilled`.
    pub reason: String,
    /// The runtime's text.
    pub message: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image as it was found.
    pub image_ref: String,
    /// Back-off step it was started with.
    pub step: u32,
}

impl Observed {
    /// The latest instance of a container.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }
    /// The instance before the latest.
    pub fn previous(&self, name: &str) -> Option<&Container> {
        self.containers.iter().filter(|c| c.name == name).nth(1)
    }
    /// Is this the latest sandbox?
    pub fn is_latest(&self, sandbox: &str) -> bool {
        self.sandbox.as_ref().is_some_and(|s| s.id == sandbox)
    }
    /// Every container that has a process.
    pub fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|c| c.state == State::Running)
    }
}

fn time(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok()).flatten()
}

/// Asks the runtime.
///
/// # Errors
/// When the runtime does not answer. Things that vanish meanwhile are left out.
pub async fn observe(runtime: &dyn Runtime, uid: &str) -> Result<Observed> {
    let mut sandboxes = runtime.sandboxes(Some(uid)).await?;
    sandboxes.sort_by_key(|s| (s.metadata.as_ref().map_or(0, |m| m.attempt), s.created_at));
    let latest = sandboxes.pop();
    let mut containers = Vec::new();
    for c in runtime.containers(Some(uid)).await? {
        match runtime.container_status(&c.id).await {
            Ok(status) => containers.push(container(status, c.pod_sandbox_id)),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e),
        }
    }
    containers.sort_by(|a, b| (&a.name, b.attempt).cmp(&(&b.name, a.attempt)));
    let sandbox = match latest {
        Some(s) => sandbox(runtime, s).await?,
        None => None,
    };
    Ok(Observed { sandbox, old_sandboxes: sandboxes.into_iter().map(|s| s.id).collect(), containers })
}

async fn sandbox(runtime: &dyn Runtime, s: pb::PodSandbox) -> Result<Option<Sandbox>> {
    let status = match runtime.sandbox_status(&s.id, false).await {
        Ok(answer) => answer.status.unwrap_or_default(),
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    let network = status.network.unwrap_or_default();
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|i| i.ip));
    Ok(Some(Sandbox {
        id: s.id,
        ready: status.state == i32::from(pb::PodSandboxState::SandboxReady),
        attempt: s.metadata.map_or(0, |m| m.attempt),
        ips: all.filter(|ip| !ip.is_empty()).collect(),
    }))
}

fn container(status: pb::ContainerStatus, sandbox: String) -> Container {
    let state = match status.state() {
        pb::ContainerState::ContainerCreated => State::Created,
        pb::ContainerState::ContainerRunning => State::Running,
        pb::ContainerState::ContainerExited => State::Exited,
        pb::ContainerState::ContainerUnknown => State::Unknown,
    };
    let metadata = status.metadata.unwrap_or_default();
    Container {
        name: status.labels.get(CONTAINER_NAME).cloned().unwrap_or(metadata.name),
        attempt: metadata.attempt,
        step: status.annotations.get(BACKOFF_STEP).and_then(|s| s.parse().ok()).unwrap_or(0),
        id: status.id,
        sandbox,
        state,
        started: time(status.started_at),
        finished: time(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        image: status.image.map(|i| i.image).unwrap_or_default(),
        image_ref: status.image_ref,
    }
}
