//! What the nodes know of their pods: very little, so that many fit.

use super::layout::{HOSTS, Layout};
use super::work::Work;
use kybern_api::object::{EventType, Object};
use kybern_client::store::Name;
use serde::Deserialize;
use smol_str::SmolStr;
use std::collections::HashMap;

/// The addresses of one node's pods that are in use.
#[derive(Debug, Clone, Copy, Default)]
struct Taken([u64; 4]);

impl Taken {
    fn take(&mut self) -> Option<u32> {
        let host = (0..HOSTS).find(|host| !self.has(*host))?;
        self.set(host);
        Some(host)
    }
    fn has(&self, host: u32) -> bool {
        self.0[(host / 64) as usize] & (1 << (host % 64)) != 0
    }
    fn set(&mut self, host: u32) {
        self.0[(host / 64) as usize] |= 1 << (host % 64);
    }
    fn give_back(&mut self, host: u32) {
        self.0[(host / 64) as usize] &= !(1 << (host % 64));
    }
}

#[derive(Debug)]
struct Known {
    uid: SmolStr,
    node: u32,
    /// None in the node's own network.
    host: Option<u32>,
    ending: bool,
    round: u32,
}

/// All pods of all nodes.
#[derive(Debug)]
pub(super) struct Table {
    layout: Layout,
    taken: Vec<Taken>,
    pods: HashMap<Name, Known>,
    round: u32,
}

/// What is read of a pod.
#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    host_network: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
}

impl Table {
    /// Nothing is known.
    pub(super) fn new(layout: Layout) -> Self {
        let taken = vec![Taken::default(); layout.numbers().len()];
        Self { layout, taken, pods: HashMap::new(), round: 0 }
    }

    /// The watch begins anew: whatever is still there will be seen again.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    /// Everything that was there when the watch began has been seen: the rest is gone.
    pub(super) fn settle(&mut self) {
        let gone: Vec<Name> =
            self.pods.iter().filter(|(_, p)| p.round != self.round).map(|(name, _)| name.clone()).collect();
        gone.iter().for_each(|name| self.forget(name));
    }

    fn forget(&mut self, name: &Name) {
        if let Some(Known { node, host: Some(host), .. }) = self.pods.remove(name) {
            self.taken[node as usize].give_back(host);
        }
    }

    /// Takes note of an event; what is to be done for the pod.
    pub(super) fn see(&mut self, kind: EventType, object: Object) -> Option<Work> {
        let name = Name::of(&object);
        let other = |known: &Known| known.uid != object.head.uid;
        if kind == EventType::Deleted || self.pods.get(&name).is_some_and(other) {
            self.forget(&name);
        }
        // Whatever cannot be read is no pod that runs here.
        let view: View = object.view().ok().filter(|_| kind != EventType::Deleted)?;
        let node = self.layout.number(&view.spec.node_name)?;
        if object.head.deleting.is_some() {
            return self.end(name, node, &object);
        }
        if let Some(known) = self.pods.get_mut(&name) {
            known.round = self.round;
            return None;
        }
        let runs = view.status.phase == "Running";
        if matches!(view.status.phase.as_str(), "Succeeded" | "Failed") {
            return None;
        }
        let taken = &mut self.taken[node as usize];
        let host = match self.layout.host(node, &view.status.pod_ip) {
            _ if view.spec.host_network => None,
            Some(host) => {
                taken.set(host);
                Some(host)
            }
            // No address left: the scheduler puts no more pods here than the node takes.
            None => Some(taken.take()?),
        };
        let uid = object.head.uid.clone();
        self.pods.insert(name, Known { uid, node, host, ending: false, round: self.round });
        let node_address = self.layout.address(node);
        let address = host.map_or(node_address, |host| self.layout.pod_address(node, host));
        (!runs).then_some(Work::Run { object, node: node_address, address })
    }

    /// Containers that are not there take no time to end.
    fn end(&mut self, name: Name, node: u32, object: &Object) -> Option<Work> {
        let uid = object.head.uid.clone();
        let round = self.round;
        let new = || Known { uid: uid.clone(), node, host: None, ending: false, round };
        let known = self.pods.entry(name.clone()).or_insert_with(new);
        known.round = round;
        (!std::mem::replace(&mut known.ending, true)).then_some(Work::End { name, uid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_client::wire;
    use serde_json::{Value, json};

    fn pod(name: &str, uid: &str, rest: Value) -> Object {
        let mut pod = json!({"metadata": {"name": name, "namespace": "n", "uid": uid, "resourceVersion": "5"},
            "spec": {"nodeName": "hollow-1"}});
        for (key, value) in rest.as_object().expect("an object") {
            pod[key.split('.').next().unwrap()][key.split('.').nth(1).unwrap()] = value.clone();
        }
        wire::object(pod.to_string().as_bytes()).unwrap()
    }

    fn table() -> Table {
        let mut table = Table::new(Layout::new(2, "10.0.0.0/16".parse().unwrap()).unwrap());
        table.begin();
        table
    }

    /// The address a pod runs at; `end` and `-` for the other answers.
    fn seen(table: &mut Table, kind: EventType, pod: Object) -> String {
        match table.see(kind, pod) {
            Some(Work::Run { address, .. }) => address.to_string(),
            Some(Work::End { .. }) => "end".into(),
            None => "-".into(),
        }
    }

    #[test]
    fn a_pod_is_run_once_and_ended_once() {
        use EventType::{Added, Deleted, Modified};
        let (mut t, none) = (table(), || json!({}));
        assert_eq!(seen(&mut t, Added, pod("a", "1", none())), "10.0.1.2");
        assert_eq!(seen(&mut t, Modified, pod("a", "1", json!({"status.phase": "Running"}))), "-");
        let dying = || json!({"metadata.deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(seen(&mut t, Modified, pod("a", "1", dying())), "end");
        assert_eq!(seen(&mut t, Modified, pod("a", "1", dying())), "-");
        assert_eq!(seen(&mut t, Added, pod("b", "2", none())), "10.0.1.3", "a's address is still its own");
        assert_eq!(seen(&mut t, Deleted, pod("a", "1", none())), "-");
        assert_eq!(seen(&mut t, Added, pod("a", "3", none())), "10.0.1.2");
        assert_eq!(seen(&mut t, Added, pod("a", "4", none())), "10.0.1.2", "another pod of that name");
    }

    #[test]
    fn what_runs_already_keeps_its_address_and_strangers_are_left_alone() {
        let mut t = table();
        let running = json!({"status.phase": "Running", "status.podIP": "10.0.1.2"});
        assert_eq!(seen(&mut t, EventType::Added, pod("a", "1", running)), "-");
        assert_eq!(seen(&mut t, EventType::Added, pod("b", "2", json!({"spec.hostNetwork": true}))), "10.0.1.1");
        assert_eq!(seen(&mut t, EventType::Added, pod("c", "3", json!({}))), "10.0.1.3");
        assert_eq!(seen(&mut t, EventType::Added, pod("d", "4", json!({"spec.nodeName": "node-1"}))), "-");
        assert_eq!(seen(&mut t, EventType::Added, pod("e", "5", json!({"status.phase": "Failed"}))), "-");
    }

    #[test]
    fn what_vanished_between_two_watches_is_forgotten() {
        let mut t = table();
        assert_eq!(seen(&mut t, EventType::Added, pod("a", "1", json!({}))), "10.0.1.2");
        assert_eq!(seen(&mut t, EventType::Added, pod("b", "2", json!({}))), "10.0.1.3");
        t.begin();
        assert_eq!(seen(&mut t, EventType::Added, pod("b", "2", json!({"status.phase": "Running"}))), "-");
        t.settle();
        assert_eq!(seen(&mut t, EventType::Added, pod("c", "3", json!({}))), "10.0.1.2");
    }
}
