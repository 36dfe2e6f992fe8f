//! A pod's status: a pure function of the pod, what the runtime has of it, and what the agent noted.

use super::observe::{Container, Observed, State};
use super::plan::{LOST, Marks};
use super::resize::{self, Granted, Pending};
use super::spec::{self, Role, is_sidecar};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    self as core, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Why a container is not there yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Waiting {
    /// For example `ErrImagePull`.
    pub reason: String,
    /// Text for a person.
    #[serde(default)]
    pub message: String,
}

/// A pod that ends for a reason of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Ending {
    /// `status.reason`, for example `DeadlineExceeded`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// Seconds its containers get; None: what the pod says.
    #[serde(default)]
    pub grace: Option<i64>,
    /// Is it ended for the node's sake, so that whoever owns it should not count it as a failure?
    #[serde(default)]
    pub disruption: bool,
}

/// Everything a status is made from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pod as the API has it.
    pub pod: &'a Pod,
    /// The pod as the runtime has it.
    pub observed: &'a Observed,
    /// What the agent noted.
    pub marks: &'a Marks,
    /// Why containers wait, by name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Why it ends although nobody deletes it.
    pub ending: Option<&'a Ending>,
    /// Has everything stopped for good?
    pub finished: bool,
    /// What its containers were granted and have.
    pub granted: &'a Granted,
    /// Why the resources that the spec asks for were not granted.
    pub pending: Option<&'a Pending>,
    /// Why granted resources could not be applied.
    pub stuck: Option<&'a str>,
    /// The node's address.
    pub host_ip: &'a str,
    /// Does it use the node's network?
    pub host_network: bool,
    /// Now.
    pub now: Timestamp,
}

fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// The status to report.
pub fn status(facts: &Facts<'_>) -> PodStatus {
    let old = facts.pod.status.clone().unwrap_or_default();
    let spec = facts.pod.spec.clone().unwrap_or_default();
    let init: Vec<ContainerStatus> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|c| container(facts, old.init_container_statuses.as_deref(), c, spec::init_role(c)))
        .collect();
    let main: Vec<ContainerStatus> =
        spec.containers.iter().map(|c| container(facts, old.container_statuses.as_deref(), c, Role::Main)).collect();
    let ephemeral: Vec<ContainerStatus> = spec::ephemeral(&spec)
        .map(|c| container(facts, old.ephemeral_container_statuses.as_deref(), &c, Role::Ephemeral))
        .collect();
    let phase = phase(facts, &old, &spec);
    let conditions = conditions(facts, &old, &spec, &phase, &init, &main);
    let ips = addresses(facts, &old);
    PodStatus {
        conditions: Some(conditions),
        container_statuses: Some(main),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        host_ip: Some(facts.host_ip.into()),
        host_ips: Some(vec![HostIP { ip: facts.host_ip.into() }]),
        pod_ip: ips.first().cloned(),
        pod_ips: if ips.is_empty() { None } else { Some(ips.into_iter().map(|ip| PodIP { ip }).collect()) },
        start_time: old.start_time.clone().or(Some(time(facts.now))),
        reason: facts.ending.map(|e| e.reason.clone()).or(old.reason.clone()),
        message: facts.ending.map(|e| e.message.clone()).or(old.message.clone()),
        observed_generation: facts.pod.metadata.generation,
        phase: Some(phase),
        ..old
    }
}

fn addresses(facts: &Facts<'_>, old: &PodStatus) -> Vec<String> {
    let reported = || old.pod_ips.iter().flatten().map(|i| i.ip.clone()).collect();
    match &facts.observed.sandbox {
        Some(s) if s.ready && facts.host_network => vec![facts.host_ip.to_owned()],
        Some(s) if !s.ips.is_empty() => s.ips.clone(),
        _ if facts.finished => reported(),
        _ => Vec::new(),
    }
}

fn phase(facts: &Facts<'_>, old: &PodStatus, spec: &core::PodSpec) -> String {
    let known = old.phase.as_deref().unwrap_or_default();
    if matches!(known, "Succeeded" | "Failed") {
        return known.to_owned();
    }
    if facts.ending.is_some() && facts.finished {
        return "Failed".into();
    }
    let latest = |c: &core::Container| facts.observed.latest(&c.name);
    let again = |c: &core::Container, role: Role, code: i32| spec::restarts(facts.pod, c, role, code);
    let initialized = spec.containers.iter().any(|c| latest(c).is_some());
    for c in spec.init_containers.iter().flatten().filter(|c| !is_sidecar(c) && !initialized) {
        match latest(c) {
            Some(l) if l.state == State::Exited && l.exit_code == 0 => {}
            Some(l) if l.state == State::Exited && !again(c, Role::Init, l.exit_code) => return "Failed".into(),
            _ => return "Pending".into(),
        }
    }
    let terminal = facts.finished && facts.pod.metadata.deletion_timestamp.is_some();
    let mut ended = Vec::new();
    for c in &spec.containers {
        match latest(c) {
            Some(l) if l.state == State::Exited => ended.push((c, l.exit_code)),
            Some(l) if l.state == State::Unknown && !again(c, Role::Main, LOST) => ended.push((c, LOST)),
            Some(l) if l.state != State::Created => {}
            _ if terminal => ended.push((c, LOST)),
            _ => {
                return if ended.is_empty() && !any_ran(facts, spec) {
                    "Pending".into()
                } else {
                    known_or_running(known)
                };
            }
        }
    }
    let sidecars_run = spec
        .init_containers
        .iter()
        .flatten()
        .any(|c| is_sidecar(c) && latest(c).is_some_and(|l| l.state == State::Running));
    let over = ended.len() == spec.containers.len() && !sidecars_run;
    if !over || (!terminal && ended.iter().any(|(c, code)| again(c, Role::Main, *code))) {
        return "Running".into();
    }
    if ended.iter().all(|(_, code)| *code == 0) { "Succeeded".into() } else { "Failed".into() }
}

fn any_ran(facts: &Facts<'_>, spec: &core::PodSpec) -> bool {
    spec.containers.iter().any(|c| facts.observed.latest(&c.name).is_some_and(|l| l.started.is_some()))
}

/// Some containers wait: a pod that ran before still runs, a new one is pending.
fn known_or_running(known: &str) -> String {
    if known == "Running" { "Running".into() } else { "Pending".into() }
}

fn terminated(c: &Container) -> ContainerStateTerminated {
    let reason = match (c.reason.as_str(), c.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (r, _) => r,
    };
    ContainerStateTerminated {
        container_id: Some(format!("containerd://{}", c.id)),
        exit_code: c.exit_code,
        reason: Some(reason.to_owned()),
        message: (!c.message.is_empty()).then(|| c.message.clone()),
        started_at: c.started.map(time),
        finished_at: c.finished.map(time),
        signal: None,
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }),
        ..Default::default()
    }
}

fn ended(c: &Container) -> ContainerState {
    ContainerState { terminated: Some(terminated(c)), ..Default::default() }
}

fn container(
    facts: &Facts<'_>,
    reported: Option<&[ContainerStatus]>,
    c: &core::Container,
    role: Role,
) -> ContainerStatus {
    let latest = facts.observed.latest(&c.name);
    let known = reported.into_iter().flatten().find(|s| s.name == c.name);
    let Some(latest) = latest else { return absent(facts, known, c, role) };
    let (state, last) = state(facts, c, latest, role);
    let last = last.or_else(|| facts.observed.previous(&c.name).filter(|p| p.state == State::Exited).map(ended));
    let running = latest.state == State::Running;
    let started = running && facts.marks.started.contains(&latest.id);
    let ready = match role {
        Role::Init => latest.state == State::Exited && latest.exit_code == 0,
        Role::Ephemeral => false,
        Role::Main | Role::Sidecar => started && facts.marks.ready.contains(&latest.id),
    };
    let resources = if running { facts.granted.applied.get(&c.name) } else { None };
    let allocated = facts.granted.allocated.get(&c.name);
    ContainerStatus {
        name: c.name.clone(),
        resources: resources.or(allocated).cloned(),
        allocated_resources: allocated.and_then(|r| r.requests.clone()),
        image: if latest.image.is_empty() { c.image.clone().unwrap_or_default() } else { latest.image.clone() },
        image_id: latest.image_ref.clone(),
        container_id: Some(format!("containerd://{}", latest.id)),
        restart_count: i32::try_from(latest.attempt).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last.or_else(|| known.and_then(|k| k.last_state.clone())).unwrap_or_default()),
        ready,
        started: (role != Role::Ephemeral).then_some(started),
        volume_mounts: mounts(c),
        ..Default::default()
    }
}

/// What is mounted where. Debian's runc cannot make mounts read-only in depth.
fn mounts(c: &core::Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts: Vec<VolumeMountStatus> = c
        .volume_mounts
        .iter()
        .flatten()
        .map(|m| VolumeMountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: m.read_only.filter(|r| *r),
            recursive_read_only: (m.read_only == Some(true)).then(|| "Disabled".to_owned()),
            ..Default::default()
        })
        .collect();
    (!mounts.is_empty()).then_some(mounts)
}

/// The state of a container that has an instance, and its last state where that is this instance.
fn state(
    facts: &Facts<'_>,
    c: &core::Container,
    latest: &Container,
    role: Role,
) -> (ContainerState, Option<ContainerState>) {
    match latest.state {
        State::Running => {
            let running = ContainerStateRunning { started_at: latest.started.map(time) };
            (ContainerState { running: Some(running), ..Default::default() }, None)
        }
        State::Created => match facts.waiting.get(&c.name) {
            Some(w) => (waiting(&w.reason, &w.message), None),
            None => (waiting("ContainerCreating", ""), None),
        },
        State::Unknown => {
            let lost = ContainerStateTerminated {
                exit_code: LOST,
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                ..Default::default()
            };
            (ContainerState { terminated: Some(lost), ..Default::default() }, None)
        }
        State::Exited => match facts.waiting.get(&c.name) {
            Some(w) if !(facts.finished || role == Role::Init && latest.exit_code == 0) => {
                (waiting(&w.reason, &w.message), Some(ended(latest)))
            }
            _ => (ended(latest), None),
        },
    }
}

/// A container that has no instance (yet, or any more).
fn absent(facts: &Facts<'_>, known: Option<&ContainerStatus>, c: &core::Container, role: Role) -> ContainerStatus {
    let reported_end = known.filter(|k| k.state.as_ref().is_some_and(|s| s.terminated.is_some()));
    if let Some(k) = reported_end
        && (facts.finished || matches!(role, Role::Init | Role::Sidecar))
    {
        return k.clone();
    }
    let has_init = facts.pod.spec.as_ref().is_some_and(|s| s.init_containers.as_ref().is_some_and(|i| !i.is_empty()));
    let state = match facts.waiting.get(&c.name) {
        Some(w) => waiting(&w.reason, &w.message),
        None if has_init && role != Role::Ephemeral => waiting("PodInitializing", ""),
        None => waiting("ContainerCreating", ""),
    };
    ContainerStatus {
        name: c.name.clone(),
        image: c.image.clone().unwrap_or_default(),
        image_id: String::new(),
        restart_count: known.map_or(0, |k| k.restart_count),
        state: Some(state),
        last_state: Some(known.and_then(|k| k.last_state.clone()).unwrap_or_default()),
        ready: false,
        started: (role != Role::Ephemeral).then_some(false),
        volume_mounts: mounts(c),
        ..Default::default()
    }
}

/// A condition's verdict: true, or false with reason and message.
type Verdict = Result<(), (&'static str, String)>;

fn conditions(
    facts: &Facts<'_>,
    old: &PodStatus,
    spec: &core::PodSpec,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Vec<PodCondition> {
    let sidecars = spec::sidecars(spec);
    let is_sidecar = |s: &&ContainerStatus| sidecars.contains(&s.name.as_str());
    let sandbox = facts.observed.sandbox.as_ref().is_some_and(|s| s.ready && (facts.host_network || !s.ips.is_empty()));
    let uninitialized: Vec<&str> = init
        .iter()
        .filter(|s| if is_sidecar(s) { s.started != Some(true) } else { !s.ready })
        .map(|s| s.name.as_str())
        .collect();
    let any_main = spec.containers.iter().any(|c| facts.observed.latest(&c.name).is_some());
    let initialized: Verdict = if phase == "Succeeded" || any_main || uninitialized.is_empty() {
        Ok(())
    } else {
        Err(("ContainersNotInitialized", format!("containers with incomplete status: [{}]", uninitialized.join(" "))))
    };
    let unready: Vec<&str> =
        init.iter().filter(is_sidecar).chain(main).filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    let containers_ready: Verdict = match phase {
        "Succeeded" => Err(("PodCompleted", String::new())),
        "Failed" => Err(("PodFailed", String::new())),
        _ if unready.is_empty() => Ok(()),
        _ => Err(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))),
    };
    let ready = containers_ready.clone().and_then(|()| gates(spec, old));
    let mut out = old.conditions.clone().unwrap_or_default();
    let verdicts: [(&str, Verdict); 4] = [
        ("PodReadyToStartContainers", if sandbox { Ok(()) } else { Err(("", String::new())) }),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
    ];
    for (kind, verdict) in verdicts {
        set(&mut out, kind, verdict, facts);
    }
    if facts.ending.is_some_and(|e| e.disruption) {
        let reason = facts.ending.map(|e| e.message.clone()).unwrap_or_default();
        raise(&mut out, "DisruptionTarget", Some(("TerminationByKubelet", reason)), facts);
    }
    let pending = facts.pending.map(|p| (p.reason.as_str(), p.message.clone()));
    raise(&mut out, "PodResizePending", pending, facts);
    let running = |name: &str| facts.observed.latest(name).is_some_and(|l| l.state == State::Running);
    let under_way = resize::in_progress(facts.granted, running).then(|| ("", String::new()));
    raise(&mut out, "PodResizeInProgress", facts.stuck.map(|why| ("Error", why.to_owned())).or(under_way), facts);
    out
}

/// Sets a condition that is only there while it is true.
fn raise(conditions: &mut Vec<PodCondition>, kind: &str, why: Option<(&str, String)>, facts: &Facts<'_>) {
    let Some((reason, message)) = why else { return conditions.retain(|c| c.type_ != kind) };
    set(conditions, kind, Ok(()), facts);
    if let Some(c) = conditions.iter_mut().find(|c| c.type_ == kind) {
        c.reason = (!reason.is_empty()).then(|| reason.to_owned());
        c.message = (!message.is_empty()).then_some(message);
    }
}

fn gates(spec: &core::PodSpec, old: &PodStatus) -> Verdict {
    for gate in spec.readiness_gates.iter().flatten() {
        let found = old.conditions.iter().flatten().find(|c| c.type_ == gate.condition_type);
        if found.is_none_or(|c| c.status != "True") {
            let state = if found.is_none() { "does not exist" } else { "is not \"True\"" };
            let message = format!("corresponding condition of pod readiness gate \"{}\" {state}.", gate.condition_type);
            return Err(("ReadinessGatesNotReady", message));
        }
    }
    Ok(())
}

fn set(conditions: &mut Vec<PodCondition>, kind: &str, verdict: Verdict, facts: &Facts<'_>) {
    let (status, reason, message) = match verdict {
        Ok(()) => ("True", None, None),
        Err((reason, message)) => {
            let some = |s: String| (!s.is_empty()).then_some(s);
            ("False", some(reason.to_owned()), some(message))
        }
    };
    let old = conditions.iter().position(|c| c.type_ == kind);
    let unchanged = old.and_then(|i| conditions.get(i)).filter(|c| c.status == status);
    let since = unchanged.and_then(|c| c.last_transition_time.clone()).or(Some(time(facts.now)));
    let condition = PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        last_transition_time: since,
        observed_generation: facts.pod.metadata.generation,
        ..Default::default()
    };
    match old {
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
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
        waiting: BTreeMap<String, Waiting>,
        #[serde(default)]
        ending: Option<Ending>,
        #[serde(default)]
        finished: bool,
        #[serde(default)]
        granted: Granted,
        #[serde(default)]
        pending: Option<Pending>,
        #[serde(default)]
        stuck: Option<String>,
        /// JSON pointers into the status and what they lead to.
        expect: BTreeMap<String, serde_json::Value>,
    }

    /// `cases/status.yaml`: facts in, parts of the status out.
    #[test]
    fn cases() {
        let cases: Vec<Case> = serde_saphyr::from_str(include_str!("cases/status.yaml")).expect("cases parse");
        assert!(cases.len() > 8);
        for case in cases {
            let pod: Pod = serde_json::from_value(case.pod).expect(&case.name);
            let facts = Facts {
                pod: &pod,
                observed: &case.observed,
                marks: &case.marks,
                waiting: &case.waiting,
                ending: case.ending.as_ref(),
                finished: case.finished,
                granted: &case.granted,
                pending: case.pending.as_ref(),
                stuck: case.stuck.as_deref(),
                host_ip: "192.0.2.1",
                host_network: pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false),
                now: "2026-01-01T00:01:00Z".parse().unwrap(),
            };
            let made = serde_json::to_value(status(&facts)).unwrap();
            for (pointer, expected) in &case.expect {
                let conditions = made["conditions"].as_array().unwrap();
                let found = match pointer.strip_prefix("condition ") {
                    Some(kind) => conditions.iter().find(|c| c["type"] == kind).map(|c| c["status"].clone()),
                    None => made.pointer(pointer).cloned(),
                };
                assert_eq!(&found.unwrap_or_default(), expected, "{}: {pointer} in {made:#}", case.name);
            }
        }
    }
}
