//! What to do next for a pod: a pure function of what is wanted, what is there, and the time.
//!
//! A plan is never resumed: after its actions the pod is observed and planned again.

use super::observe::{Container, Observed, State};
use super::resize::{self, Granted};
use super::spec::{self, Role};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{self as core, Pod};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// First wait of the restart back-off; doubles.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
/// Longest wait.
const MAX_BACKOFF: SignedDuration = SignedDuration::from_secs(300);
/// Exit code of a container that the runtime lost: it counts as killed.
pub(super) const LOST: i32 = 137;
/// A container that ran so long starts over without back-off.
const RESET_AFTER: SignedDuration = SignedDuration::from_secs(600);

/// What the agent itself knows of running containers. Keys are runtime ids.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Marks {
    /// Startup probe passed (or none) and postStart done.
    pub started: BTreeSet<String>,
    /// Readiness probe passes (or none).
    pub ready: BTreeSet<String>,
    /// Must be ended: liveness or startup probe or postStart failed.
    pub unhealthy: BTreeMap<String, Unhealthy>,
    /// Being ended already.
    pub stopping: BTreeSet<String>,
    /// postStart is under way: what comes after it in the pod waits.
    pub hooking: BTreeSet<String>,
}

/// Why a container must be ended, and how gently.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Unhealthy {
    /// For the event.
    pub why: String,
    /// The probe's own grace in seconds; None: the pod's.
    #[serde(default)]
    pub grace: Option<i64>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub enum Action {
    /// Make a sandbox.
    CreateSandbox(u32),
    /// Stop a sandbox and what runs in it.
    StopSandbox(String),
    /// Remove a stopped sandbox and its containers.
    RemoveSandbox(String),
    /// Create and start a container.
    Start {
        /// Name in the pod.
        name: String,
        /// Restart count.
        attempt: u32,
        /// Back-off step to note on it.
        step: u32,
    },
    /// End a container.
    Stop {
        /// Runtime id.
        id: String,
        /// Name in the pod.
        name: String,
        /// Seconds it gets.
        grace: i64,
        /// For the event.
        why: String,
        /// Containers (runtime ids) that must have ended before, as far as the grace allows.
        after: Vec<String>,
    },
    /// Give a running container the resources it was granted.
    Resize {
        /// Runtime id.
        id: String,
        /// Name in the pod.
        name: String,
    },
    /// Remove an ended container that nobody needs.
    Remove(String),
}

/// What to do, in order, and when to look again.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PodActions {
    /// In order.
    pub actions: Vec<Action>,
    /// When to plan again although nothing happened.
    #[serde(skip)]
    pub wake: Option<Timestamp>,
    /// Containers waiting for their back-off: name and the wait's full length in seconds.
    pub backing_off: BTreeMap<String, i64>,
    /// Nothing of the pod runs or will run again.
    pub finished: bool,
}

impl PodActions {
    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }
}

/// The wait before a container is restarted that was started with `step`.
pub fn backoff(step: u32) -> SignedDuration {
    match step {
        0 => SignedDuration::ZERO,
        n => (FIRST_BACKOFF * (1 << (n - 1).min(10))).min(MAX_BACKOFF),
    }
}

/// Everything a plan looks at.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// The pod as the API has it.
    pub pod: &'a Pod,
    /// The pod as the runtime has it.
    pub observed: &'a Observed,
    /// What the agent noted.
    pub marks: &'a Marks,
    /// Must it end although nobody deletes it (deadline, eviction, refusal)?
    pub evicted: bool,
    /// Seconds it gets then; None: what the pod says.
    pub hurry: Option<i64>,
    /// What its containers were granted; the pod's own resources are those.
    pub granted: &'a Granted,
    /// Now.
    pub now: Timestamp,
}

/// Decides.
pub fn plan(world: &World<'_>) -> PodActions {
    let Some(spec) = &world.pod.spec else { return PodActions::default() };
    let phase = world.pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let ended = matches!(phase, "Succeeded" | "Failed");
    if world.pod.metadata.deletion_timestamp.is_some() || ended || world.evicted || completed(world, spec) {
        return wind_down(world, spec);
    }
    let mut out = PodActions::default();
    let ready = world.observed.sandbox.as_ref().filter(|s| s.ready);
    match (ready, &world.observed.sandbox) {
        (Some(sandbox), _) => {
            run(world, spec, &sandbox.id, &mut out);
            let stopping = |c: &&Container| world.marks.stopping.contains(&c.id);
            let running = world.observed.running().filter(|c| !stopping(c));
            let running: Vec<(&str, &str)> = running.map(|c| (c.name.as_str(), c.id.as_str())).collect();
            resize::plan(world.pod, world.granted, &running, grace(world, spec), &mut out);
        }
        (None, Some(dead)) => {
            out.actions.push(Action::StopSandbox(dead.id.clone()));
            out.actions.push(Action::CreateSandbox(dead.attempt + 1));
        }
        (None, None) => out.actions.push(Action::CreateSandbox(0)),
    }
    out
}

/// The exit code that counts for a container; None: it has not ended. One that the runtime lost was killed.
fn end(c: &Container) -> Option<i32> {
    match c.state {
        State::Exited => Some(c.exit_code),
        State::Unknown => Some(LOST),
        State::Created | State::Running => None,
    }
}

/// Have all containers ended for good?
fn completed(world: &World<'_>, spec: &core::PodSpec) -> bool {
    let over = |c: &core::Container, role: Role| {
        let code = world.observed.latest(&c.name).and_then(end)?;
        (!spec::restarts(world.pod, c, role, code)).then_some(code)
    };
    let started = spec.containers.iter().any(|c| world.observed.latest(&c.name).is_some());
    let mut init = spec::declared(spec).filter(|(_, role)| *role == Role::Init);
    let init_failed = !started && init.any(|(c, role)| over(c, role).is_some_and(|code| code != 0));
    init_failed || (!spec.containers.is_empty() && spec.containers.iter().all(|c| over(c, Role::Main).is_some()))
}

/// Seconds the pod's containers get.
fn grace(world: &World<'_>, spec: &core::PodSpec) -> i64 {
    let own = spec.termination_grace_period_seconds.unwrap_or(30);
    let given = world.pod.metadata.deletion_grace_period_seconds.or(world.hurry.filter(|_| world.evicted));
    given.unwrap_or(own).max(0)
}

/// Ends the pod: all containers at once, but sidecars wait for the others, from the last to the first;
/// then the sandbox. A pod that is being deleted loses everything, one that merely ended keeps its
/// containers for their logs.
fn wind_down(world: &World<'_>, spec: &core::PodSpec) -> PodActions {
    let mut out = PodActions::default();
    let sidecars = spec::sidecars(spec);
    let position = |c: &Container| sidecars.iter().position(|n| *n == c.name);
    let debugging = |c: &Container| spec.ephemeral_containers.iter().flatten().any(|e| e.name == c.name);
    let running: Vec<&Container> = world.observed.running().collect();
    for c in running.iter().filter(|c| !world.marks.stopping.contains(&c.id)) {
        let after = match position(c) {
            None => Vec::new(),
            Some(own) => {
                let before = running.iter().filter(|o| !debugging(o) && position(o).is_none_or(|p| p > own));
                before.map(|o| o.id.clone()).collect()
            }
        };
        let why = format!("Stopping container {}", c.name);
        let (id, name, grace) = (c.id.clone(), c.name.clone(), grace(world, spec));
        out.actions.push(Action::Stop { id, name, grace, why, after });
    }
    if !running.is_empty() {
        return out;
    }
    let deleting = world.pod.metadata.deletion_timestamp.is_some();
    if let Some(sandbox) = &world.observed.sandbox {
        if sandbox.ready {
            out.actions.push(Action::StopSandbox(sandbox.id.clone()));
        }
        if deleting {
            out.actions.push(Action::RemoveSandbox(sandbox.id.clone()));
        }
    }
    for old in world.observed.old_sandboxes.iter().filter(|_| deleting) {
        out.actions.push(Action::RemoveSandbox(old.clone()));
    }
    out.finished = out.actions.is_empty();
    out
}

/// Ephemeral containers, init containers in turn, then the others.
fn run(world: &World<'_>, spec: &core::PodSpec, sandbox: &str, out: &mut PodActions) {
    let here = |name: &str| world.observed.latest(name).filter(|c| c.sandbox == sandbox);
    // Remains of init containers may have been removed; a main container proves that they are done.
    let initialized = spec.containers.iter().any(|c| here(&c.name).is_some());
    for old in &world.observed.old_sandboxes {
        out.actions.push(Action::RemoveSandbox(old.clone()));
    }
    collect_garbage(world, sandbox, out);
    for c in spec::ephemeral(spec).filter(|c| world.observed.latest(&c.name).is_none()) {
        out.actions.push(Action::Start { name: c.name, attempt: 0, step: 0 });
    }
    for (c, role) in spec::declared(spec) {
        let latest = here(&c.name);
        let passed = match role {
            Role::Sidecar => initialized || latest.is_some_and(|l| world.marks.started.contains(&l.id)),
            Role::Init => initialized || latest.is_some_and(|l| end(l) == Some(0)),
            Role::Main | Role::Ephemeral => !holds_up(world, c, latest),
        };
        if role != Role::Init || !passed {
            consider(world, spec, c, role, latest, out);
        }
        if !passed {
            return;
        }
    }
}

/// Must the containers after this one wait for its postStart hook?
fn holds_up(world: &World<'_>, c: &core::Container, latest: Option<&Container>) -> bool {
    let hooked = c.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some());
    hooked && latest.is_none_or(|l| world.marks.hooking.contains(&l.id))
}

/// One container that should run: start it, leave it, end it, or wait.
fn consider(
    world: &World<'_>,
    spec: &core::PodSpec,
    c: &core::Container,
    role: Role,
    here: Option<&Container>,
    out: &mut PodActions,
) {
    let Some(latest) = here else {
        out.actions.push(Action::Start { name: c.name.clone(), attempt: next_attempt(world, &c.name), step: 0 });
        return;
    };
    match latest.state {
        State::Running => {
            if let Some(unhealthy) = world.marks.unhealthy.get(&latest.id)
                && !world.marks.stopping.contains(&latest.id)
            {
                let own = spec.termination_grace_period_seconds.unwrap_or(30);
                out.actions.push(Action::Stop {
                    id: latest.id.clone(),
                    name: c.name.clone(),
                    grace: unhealthy.grace.unwrap_or(own),
                    why: unhealthy.why.clone(),
                    after: Vec::new(),
                });
            }
        }
        // A container that was made and never started is what a failed or interrupted start leaves.
        State::Created => {
            out.actions.push(Action::Remove(latest.id.clone()));
            restart(world, c, latest, out);
        }
        State::Unknown if spec::restarts(world.pod, c, role, LOST) => {
            out.actions.push(Action::Remove(latest.id.clone()));
            restart(world, c, latest, out);
        }
        State::Exited if spec::restarts(world.pod, c, role, latest.exit_code) => restart(world, c, latest, out),
        State::Exited | State::Unknown => {}
    }
}

fn restart(world: &World<'_>, c: &core::Container, latest: &Container, out: &mut PodActions) {
    let ran = match (latest.started, latest.finished) {
        (Some(start), Some(end)) => end.duration_since(start),
        _ => SignedDuration::ZERO,
    };
    let step = if ran >= RESET_AFTER { 0 } else { latest.step };
    // One that never ended never failed: it need not wait.
    let due = latest.finished.map_or(world.now, |end| end + backoff(step));
    if world.now < due {
        out.backing_off.insert(c.name.clone(), backoff(step).as_secs());
        out.wake_at(due);
        return;
    }
    let attempt = next_attempt(world, &c.name);
    out.actions.push(Action::Start { name: c.name.clone(), attempt, step: step + 1 });
}

/// Restart counts go on where the runtime, or (after its loss) the reported status, stands.
fn next_attempt(world: &World<'_>, name: &str) -> u32 {
    if let Some(latest) = world.observed.latest(name) {
        return latest.attempt + 1;
    }
    let status = world.pod.status.as_ref();
    let reported = status
        .into_iter()
        .flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()))
        .find(|s| s.name == name && s.container_id.as_deref().is_some_and(|id| !id.is_empty()));
    reported.map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0) + 1)
}

/// Each container keeps its latest instance and the one before (for `--previous`).
fn collect_garbage(world: &World<'_>, sandbox: &str, out: &mut PodActions) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for c in world.observed.containers.iter().filter(|c| c.sandbox == sandbox) {
        let count = seen.entry(&c.name).or_default();
        *count += 1;
        if *count > 2 && c.state != State::Running {
            out.actions.push(Action::Remove(c.id.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        pod: serde_json::Value,
        #[serde(default)]
        observed: Observed,
        #[serde(default)]
        marks: Marks,
        #[serde(default)]
        evicted: bool,
        now: Timestamp,
        expect: Vec<String>,
        #[serde(default)]
        wake: Option<Timestamp>,
        #[serde(default)]
        finished: bool,
        #[serde(default)]
        granted: Granted,
        #[serde(default)]
        hurry: Option<i64>,
    }

    fn line(action: &Action) -> String {
        match action {
            Action::CreateSandbox(n) => format!("create sandbox {n}"),
            Action::StopSandbox(id) => format!("stop sandbox {id}"),
            Action::RemoveSandbox(id) => format!("remove sandbox {id}"),
            Action::Start { name, attempt, step } => format!("start {name} attempt {attempt} step {step}"),
            Action::Stop { id, grace, after, .. } if after.is_empty() => format!("stop {id} within {grace}"),
            Action::Stop { id, grace, after, .. } => format!("stop {id} within {grace} after {}", after.join(" ")),
            Action::Resize { id, .. } => format!("resize {id}"),
            Action::Remove(id) => format!("remove {id}"),
        }
    }

    /// `cases/plan.yaml`: world in, actions out.
    #[test]
    fn cases() {
        let cases: Vec<Case> = serde_saphyr::from_str(include_str!("cases/plan.yaml")).expect("cases parse");
        assert!(cases.len() > 10);
        for case in cases {
            let pod: Pod = serde_json::from_value(case.pod).expect(&case.name);
            let world = World {
                pod: &pod,
                observed: &case.observed,
                marks: &case.marks,
                evicted: case.evicted,
                hurry: case.hurry,
                granted: &case.granted,
                now: case.now,
            };
            let out = plan(&world);
            let lines: Vec<String> = out.actions.iter().map(line).collect();
            assert_eq!(lines, case.expect, "{}", case.name);
            assert_eq!(out.wake, case.wake, "{}: wake", case.name);
            assert_eq!(out.finished, case.finished, "{}: finished", case.name);
        }
    }

    #[test]
    fn backoff_doubles_to_five_minutes() {
        let seconds: Vec<i64> = (0..8).map(|s| backoff(s).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300]);
    }
}
