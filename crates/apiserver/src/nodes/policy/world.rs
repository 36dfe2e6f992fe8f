//! Pods, namespaces and policies as far as policies need them, and the address sets made of them. Each
//! change updates the sets that it touches and says whose view it may have changed. Pure.

use super::spec::{Policy, Scope, SetDef};
use super::view::{Members, View};
use kybern_api::object::{Head, Object};
use serde::Deserialize;
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

type Key = (SmolStr, SmolStr);
/// Sets by id, and the elements that are a pod's in them.
type Memberships = Vec<(String, Vec<(u32, u16)>)>;
/// Names of nodes.
pub(super) type Nodes = BTreeSet<SmolStr>;

#[derive(Debug, Clone)]
struct Pod {
    head: Arc<Head>,
    node: SmolStr,
    /// None for pods that are the node itself to others, or are over.
    address: Option<Ipv4Addr>,
    ports: Vec<Port>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: SmolStr,
    protocol: SmolStr,
    container_port: u16,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodView {
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: SmolStr,
    host_network: bool,
    init_containers: Vec<Container>,
    containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    restart_policy: SmolStr,
    ports: Vec<Port>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: SmolStr,
    #[serde(rename = "podIPs")]
    ips: Vec<Ip>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ip {
    ip: SmolStr,
}

impl Pod {
    /// None: no policy concerns it (the node's own network).
    fn read(object: &Object) -> Result<Option<Self>, serde_json::Error> {
        let PodView { spec, status } = object.view()?;
        if spec.host_network {
            return Ok(None);
        }
        let over = matches!(status.phase.as_str(), "Succeeded" | "Failed");
        let address = status.ips.iter().find_map(|a| a.ip.parse().ok()).filter(|_| !over);
        let sidecars = spec.init_containers.into_iter().filter(|c| c.restart_policy == "Always");
        let ports = spec.containers.into_iter().chain(sidecars).flat_map(|c| c.ports);
        let ports = ports.filter(|p| !p.name.is_empty()).collect();
        Ok(Some(Self { head: object.head.clone(), node: spec.node_name, address, ports }))
    }

    fn equals(&self, other: &Self) -> bool {
        self.node == other.node
            && self.address == other.address
            && self.ports == other.ports
            && self.head.labels == other.head.labels
    }
}

#[derive(Debug)]
struct Set {
    def: SetDef,
    members: Arc<Members>,
    users: BTreeSet<Key>,
}

/// Everything that policies depend on.
#[derive(Debug, Default)]
pub(super) struct World {
    pods: BTreeMap<Key, Pod>,
    on_node: BTreeMap<SmolStr, BTreeSet<Key>>,
    /// Pods by address: one that ends may still have what another has got already.
    holders: BTreeMap<Ipv4Addr, BTreeSet<Key>>,
    namespaces: BTreeMap<SmolStr, Arc<Head>>,
    policies: BTreeMap<Key, Policy>,
    sets: BTreeMap<String, Set>,
}

fn key(head: &Head) -> Key {
    (head.namespace.clone(), head.name.clone())
}

impl World {
    /// A pod is as it says, or gone. The nodes whose view may have changed.
    ///
    /// # Errors
    /// When the object is no pod; then it is taken for gone, so that nothing flows to or from it.
    pub(super) fn pod(&mut self, object: &Object, gone: bool) -> (Nodes, Result<(), serde_json::Error>) {
        let (new, read) = match (gone, Pod::read(object)) {
            (true, _) => (None, Ok(())),
            (false, Ok(pod)) => (pod, Ok(())),
            (false, Err(e)) => (None, Err(e)),
        };
        let key = key(&object.head);
        let old = match &new {
            Some(pod) => self.pods.insert(key.clone(), pod.clone()),
            None => self.pods.remove(&key),
        };
        let mut nodes = Nodes::new();
        match (&old, &new) {
            (None, None) => return (nodes, read),
            (Some(old), Some(new)) if old.equals(new) => return (nodes, read),
            _ => {}
        }
        if let Some(pod) = &old {
            take_out(&mut self.on_node, &pod.node, &key);
            pod.address.iter().for_each(|a| take_out(&mut self.holders, a, &key));
            nodes.insert(pod.node.clone());
        }
        if let Some(pod) = &new {
            self.on_node.entry(pod.node.clone()).or_default().insert(key.clone());
            if let Some(address) = pod.address {
                self.holders.entry(address).or_default().insert(key.clone());
            }
            nodes.insert(pod.node.clone());
        }
        let users = self.refresh(&key, old.as_ref(), new.as_ref());
        self.add_nodes_of(&users, &mut nodes);
        (nodes, read)
    }

    /// A namespace is as it says, or gone.
    pub(super) fn namespace(&mut self, object: &Object, gone: bool) -> Nodes {
        let name = object.head.name.clone();
        let pods: Vec<Pod> = in_namespace(&self.pods, &name).map(|(_, p)| p.clone()).collect();
        let before: Vec<Memberships> = pods.iter().map(|pod| self.memberships(pod)).collect();
        match gone {
            true => self.namespaces.remove(&name),
            false => self.namespaces.insert(name, object.head.clone()),
        };
        let mut users = BTreeSet::new();
        for (pod, had) in pods.iter().zip(before) {
            let has = self.memberships(pod);
            users.append(&mut self.exchange(had, has));
        }
        let mut nodes = Nodes::new();
        self.add_nodes_of(&users, &mut nodes);
        nodes
    }

    /// A policy is as it says, or gone. What is older than what is known is left out.
    ///
    /// # Errors
    /// When the policy cannot be understood; then its pods are closed, rather than open.
    pub(super) fn policy(&mut self, object: &Object, gone: bool) -> (Nodes, Result<(), String>) {
        let key = key(&object.head);
        let known = self.policies.get(&key).map_or(0, |p| p.revision);
        let mut nodes = Nodes::new();
        if known > object.revision || (known == object.revision && !gone) {
            return (nodes, Ok(()));
        }
        for set in self.policies.remove(&key).into_iter().flat_map(|p| p.sets.into_keys()) {
            self.leave(&set, &key);
        }
        let mut read = Ok(());
        if !gone {
            let policy = Policy::read(object).unwrap_or_else(|e| {
                read = Err(e);
                Policy::closed(object)
            });
            for (id, def) in &policy.sets {
                self.enter(id, def, &key);
            }
            self.policies.insert(key.clone(), policy);
        }
        self.add_nodes_of(&BTreeSet::from([key]), &mut nodes);
        (nodes, read)
    }

    /// What the node is to know.
    pub(super) fn view(&self, node: &str) -> View {
        let mut view = View::default();
        for key in self.on_node.get(node).into_iter().flatten() {
            let Some(pod) = self.pods.get(key) else { continue };
            let mut names = Vec::new();
            for (_, policy) in in_namespace(&self.policies, &key.0) {
                if policy.selector.matches(pod.head.as_ref()) {
                    names.push(policy.rules.name.clone());
                    self.show(policy, &mut view);
                }
            }
            view.pods.insert(format!("{}/{}", key.0, key.1), names);
        }
        view
    }

    fn show(&self, policy: &Policy, view: &mut View) {
        if view.policies.contains_key(&policy.rules.name) {
            return;
        }
        view.policies.insert(policy.rules.name.clone(), policy.rules.clone());
        for id in policy.sets.keys() {
            if let Some(set) = self.sets.get(id) {
                view.sets.insert(id.clone(), (set.def.port.is_some(), set.members.clone()));
            }
        }
    }

    fn add_nodes_of(&self, policies: &BTreeSet<Key>, nodes: &mut Nodes) {
        let namespaces: BTreeSet<&SmolStr> = policies.iter().map(|(namespace, _)| namespace).collect();
        for namespace in namespaces {
            nodes.extend(in_namespace(&self.pods, namespace).map(|(_, pod)| pod.node.clone()));
        }
    }

    /// The sets that a pod is in, and as what.
    fn memberships(&self, pod: &Pod) -> Memberships {
        let found = self.sets.iter().map(|(id, set)| (id.clone(), self.elements(&set.def, pod)));
        found.filter(|(_, elements)| !elements.is_empty()).collect()
    }

    fn refresh(&mut self, key: &Key, old: Option<&Pod>, new: Option<&Pod>) -> BTreeSet<Key> {
        let of = |pod: Option<&Pod>| pod.map(|p| self.memberships(p)).unwrap_or_default();
        let (had, mut has) = (of(old), of(new));
        let others = old.and_then(|pod| pod.address).and_then(|a| self.holders.get(&a)).into_iter().flatten();
        let others = others.filter(|other| *other != key).filter_map(|other| self.pods.get(other));
        has.extend(others.flat_map(|pod| self.memberships(pod)));
        self.exchange(had, has)
    }

    /// Takes elements out of sets and puts others in; the users of sets that are different then.
    fn exchange(&mut self, had: Memberships, has: Memberships) -> BTreeSet<Key> {
        let mut users = BTreeSet::new();
        if had == has {
            return users;
        }
        for (elements, leaving) in [(had, true), (has, false)] {
            for (id, elements) in elements {
                let Some(set) = self.sets.get_mut(&id) else { continue };
                let members = Arc::make_mut(&mut set.members);
                for element in elements {
                    if leaving {
                        members.remove(&element)
                    } else {
                        members.insert(element)
                    };
                }
                users.extend(set.users.iter().cloned());
            }
        }
        users
    }

    fn elements(&self, def: &SetDef, pod: &Pod) -> Vec<(u32, u16)> {
        let Some(address) = pod.address.map(u32::from) else { return Vec::new() };
        let inside = match &def.scope {
            Scope::One(namespace) => *namespace == pod.head.namespace,
            Scope::Matching(selector) => {
                self.namespaces.get(&pod.head.namespace).is_some_and(|n| selector.matches(n.as_ref()))
            }
        };
        if !inside || !def.pods.matches(pod.head.as_ref()) {
            return Vec::new();
        }
        let Some(named) = &def.port else { return vec![(address, 0)] };
        let fits = |p: &&Port| p.name == named.name && (p.protocol == named.protocol || p.protocol.is_empty());
        pod.ports.iter().filter(fits).map(|p| (address, p.container_port)).collect()
    }

    fn enter(&mut self, id: &str, def: &SetDef, user: &Key) {
        if let Some(set) = self.sets.get_mut(id) {
            set.users.insert(user.clone());
            return;
        }
        let members: Members = self.pods.values().flat_map(|pod| self.elements(def, pod)).collect();
        let set = Set { def: def.clone(), members: Arc::new(members), users: BTreeSet::from([user.clone()]) };
        self.sets.insert(id.to_owned(), set);
    }

    fn leave(&mut self, id: &str, user: &Key) {
        let Some(set) = self.sets.get_mut(id) else { return };
        set.users.remove(user);
        if set.users.is_empty() {
            self.sets.remove(id);
        }
    }
}

fn take_out<K: Ord>(map: &mut BTreeMap<K, BTreeSet<Key>>, place: &K, key: &Key) {
    if let Some(keys) = map.get_mut(place) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(place);
        }
    }
}

fn in_namespace<'a, T>(map: &'a BTreeMap<Key, T>, namespace: &'a SmolStr) -> impl Iterator<Item = (&'a Key, &'a T)> {
    map.range((namespace.clone(), SmolStr::default())..).take_while(move |((n, _), _)| n == namespace)
}
