//! In-place resize: what resources a pod was granted, what its containers really have, and what to do
//! when the spec asks for something else.

use super::plan::PodActions;
use super::spec::{self, Role};
use super::{plan::Action, resources};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use kybern_api::meta::quantity::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The resources that a resize may change.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];
const FILE: &str = "resources.json";

/// Kept beside the pod's other files, so that the next agent goes on with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Granted {
    /// What each container may have, by name: the spec, as far as the node could agree.
    pub allocated: BTreeMap<String, ResourceRequirements>,
    /// What each running container has.
    pub applied: BTreeMap<String, ResourceRequirements>,
}

/// Why a resize waits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pending {
    /// `Infeasible` or `Deferred`.
    pub reason: String,
    /// Text for a person.
    #[serde(default)]
    pub message: String,
}

/// What the node has for pods: allocatable, and what its other pods requested.
#[derive(Debug, Clone, Copy, Default)]
pub struct Room {
    /// Allocatable CPU in millicores and memory in bytes.
    pub allocatable: (i64, i64),
    /// Requested by the node's other pods.
    pub taken: (i64, i64),
}

impl Granted {
    /// Reads what an agent before this one kept; nothing, where there is nothing readable.
    pub fn load(dir: &Path) -> Self {
        std::fs::read(dir.join(FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }
    /// Keeps it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, dir: &Path) -> crate::error::Result<()> {
        let path = dir.join(FILE);
        let bytes = serde_json::to_vec(self).map_err(|source| crate::error::Error::Decode { what: FILE, source })?;
        std::fs::create_dir_all(dir).map_err(crate::error::Error::file("create", dir))?;
        std::fs::write(&path, bytes).map_err(crate::error::Error::file("write", &path))
    }
}

/// A container's resources; none is the same as empty.
fn of(c: &Container) -> ResourceRequirements {
    c.resources.clone().unwrap_or_default()
}

/// Do two differ in what a resize may change? Compared by value: `1` is `1000m`.
fn differ(a: &ResourceRequirements, b: &ResourceRequirements, name: &str) -> bool {
    let amount = |list: &Option<BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
        list.as_ref().and_then(|l| l.get(name)).and_then(|q| q.0.parse::<Quantity>().ok())
    };
    amount(&a.limits) != amount(&b.limits) || amount(&a.requests) != amount(&b.requests)
}

/// Containers that can be resized, with their role.
fn resizable(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec::declared(spec).filter(|(_, role)| *role != Role::Init).map(|(c, _)| c)
}

/// Grants what the spec asks for, if it is new and the node has it; else says why not. A pod seen for the
/// first time has been granted its resources by the scheduler.
pub fn grant(granted: &mut Granted, pod: &Pod, room: impl FnOnce() -> Room) -> Option<Pending> {
    let spec = pod.spec.as_ref()?;
    let wanted: BTreeMap<String, ResourceRequirements> = resizable(spec).map(|c| (c.name.clone(), of(c))).collect();
    let changed = |name: &String, r: &ResourceRequirements| {
        granted.allocated.get(name).is_some_and(|old| RESIZABLE.iter().any(|n| differ(old, r, n)))
    };
    if !wanted.iter().any(|(name, r)| changed(name, r)) {
        for (name, r) in wanted {
            granted.allocated.entry(name).or_insert(r);
        }
        return None;
    }
    let (asked, room) = (resources::requests(pod), room());
    let names =
        [("cpu", asked.0, room.allocatable.0, room.taken.0), ("memory", asked.1, room.allocatable.1, room.taken.1)];
    for (name, requested, capacity, _) in names {
        if requested > capacity {
            let message =
                format!("Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}");
            return Some(Pending { reason: "Infeasible".into(), message });
        }
    }
    for (name, requested, capacity, used) in names {
        if requested + used > capacity {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return Some(Pending { reason: "Deferred".into(), message });
        }
    }
    granted.allocated = wanted;
    None
}

/// The pod with the resources it was granted.
pub fn effective(pod: &Pod, granted: &Granted) -> Pod {
    let mut pod = pod.clone();
    if let Some(spec) = &mut pod.spec {
        for c in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            if let Some(r) = granted.allocated.get(&c.name) {
                c.resources = Some(r.clone());
            }
        }
    }
    pod
}

/// Does a change of these resources need a restart of the container?
fn needs_restart(c: &Container, changed: &[&str]) -> bool {
    c.resize_policy
        .iter()
        .flatten()
        .any(|p| p.restart_policy == "RestartContainer" && changed.contains(&p.resource_name.as_str()))
}

/// Has a running container other resources than it was granted?
pub fn in_progress(granted: &Granted, is_running: impl Fn(&str) -> bool) -> bool {
    granted.applied.iter().filter(|(name, _)| is_running(name)).any(|(name, applied)| {
        granted.allocated.get(name).is_some_and(|wanted| RESIZABLE.iter().any(|n| differ(applied, wanted, n)))
    })
}

/// Adds what it takes to give running containers what they were granted. `pod` is the effective one, and
/// `running` names containers by name and runtime id.
pub fn plan(pod: &Pod, granted: &Granted, running: &[(&str, &str)], grace: i64, out: &mut PodActions) {
    let Some(spec) = &pod.spec else { return };
    for c in resizable(spec) {
        let Some((_, id)) = running.iter().find(|(name, _)| *name == c.name) else { continue };
        let Some(applied) = granted.applied.get(&c.name) else { continue };
        let changed: Vec<&str> = RESIZABLE.into_iter().filter(|n| differ(applied, &of(c), n)).collect();
        if changed.is_empty() {
            continue;
        }
        let (id, name) = ((*id).to_owned(), c.name.clone());
        out.actions.push(if needs_restart(c, &changed) {
            let why = format!("Container {name} resize requires restart");
            Action::Stop { id, name, grace, why, after: Vec::new() }
        } else {
            Action::Resize { id, name }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(cpu: &str, policy: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}, "resizePolicy": policy}]}}))
        .unwrap()
    }
    const ROOM: Room = Room { allocatable: (2000, 1 << 30), taken: (500, 0) };

    fn granted(cpu: &str) -> Granted {
        let mut granted = Granted::default();
        assert_eq!(grant(&mut granted, &pod(cpu, json!([])), || ROOM), None);
        granted.applied = granted.allocated.clone();
        granted
    }

    fn planned(granted: &Granted, pod: &Pod) -> Vec<Action> {
        let mut out = PodActions::default();
        plan(&effective(pod, granted), granted, &[("a", "a0")], 7, &mut out);
        out.actions
    }

    #[test]
    fn what_fits_is_granted_and_applied() {
        let mut granted = granted("1");
        let same = pod("1000m", json!([]));
        assert_eq!(
            (grant(&mut granted, &same, || ROOM), planned(&granted, &same)),
            (None, vec![]),
            "the same in other words"
        );
        let more = pod("1500m", json!([]));
        assert_eq!(grant(&mut granted, &more, || ROOM), None);
        assert_eq!(planned(&granted, &more), [Action::Resize { id: "a0".into(), name: "a".into() }]);
        granted.applied = granted.allocated.clone();
        assert_eq!(planned(&granted, &more), []);
    }

    #[test]
    fn what_does_not_fit_leaves_things_as_they_are() {
        let mut granted = granted("1");
        let before = granted.clone();
        let later = grant(&mut granted, &pod("1600m", json!([])), || ROOM).unwrap();
        assert_eq!(later.reason, "Deferred");
        let never = grant(&mut granted, &pod("3", json!([])), || ROOM).unwrap();
        assert_eq!(never.reason, "Infeasible");
        assert_eq!(never.message, "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000");
        assert_eq!((&granted, planned(&granted, &pod("3", json!([])))), (&before, vec![]));
    }

    #[test]
    fn a_policy_may_ask_for_a_restart() {
        let mut granted = granted("1");
        let restart = pod("500m", json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]));
        assert_eq!(grant(&mut granted, &restart, || ROOM), None);
        assert!(matches!(&planned(&granted, &restart)[..], [Action::Stop { grace: 7, .. }]));
        let other = pod("400m", json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]));
        assert_eq!(grant(&mut granted, &other, || ROOM), None);
        assert!(matches!(&planned(&granted, &other)[..], [Action::Resize { .. }]));
    }

    #[test]
    fn it_outlives_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let kept = granted("1");
        kept.save(&dir.path().join("pod")).unwrap();
        assert_eq!(Granted::load(&dir.path().join("pod")), kept);
        assert_eq!(Granted::load(dir.path()), Granted::default());
    }
}
