//! From subjects to rules. When a role or binding has changed, only what changed is parsed again and only
//! the namespaces it concerns are put together anew; a lookup is two or three hash reads per group of the
//! user.

use crate::rules::Rule;
use arc_swap::ArcSwapOption;
use kybern_api::attributes::UserInfo;
use kybern_api::object::Object;
use kybern_api::seam::Lister;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use smol_str::{SmolStr, format_smolstr};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// Some rules that a binding gives to somebody.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    /// The rules of the role.
    pub(crate) rules: Arc<[Rule]>,
    binding: Arc<Binding>,
}

impl Grant {
    /// Why a request passed, for the audit log.
    pub(crate) fn explain(&self) -> String {
        let b = &self.binding;
        let (kind, name) = match b.namespace.is_empty() {
            true => ("ClusterRoleBinding", b.name.clone()),
            false => ("RoleBinding", format_smolstr!("{}/{}", b.name, b.namespace)),
        };
        format!("RBAC: allowed by {kind} \"{name}\" of {} \"{}\"", b.role.kind, b.role.name)
    }
}

/// The index, kept fresh on use.
#[derive(Debug, Default)]
pub(crate) struct Index {
    current: ArcSwapOption<Snapshot>,
    parsed: Mutex<Parsed>,
}

#[derive(Debug, Default)]
struct Snapshot {
    stamp: [u64; 4],
    cluster: Arc<Grants>,
    namespaces: imbl::HashMap<SmolStr, Arc<Grants>>,
}

#[derive(Debug, Default)]
struct Grants {
    users: HashMap<SmolStr, Vec<Grant>>,
    groups: HashMap<SmolStr, Vec<Grant>>,
}

impl Index {
    /// Walks every grant that counts for `user` in `namespace` (empty: cluster-wide grants only).
    pub(crate) fn visit<B>(
        &self,
        user: &UserInfo,
        namespace: &str,
        objects: &dyn Lister,
        mut each: impl FnMut(&Grant) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let snapshot = self.snapshot(objects);
        snapshot.cluster.visit(user, &mut each)?;
        match snapshot.namespaces.get(namespace) {
            Some(grants) if !namespace.is_empty() => grants.visit(user, &mut each),
            _ => ControlFlow::Continue(()),
        }
    }

    fn snapshot(&self, objects: &dyn Lister) -> Arc<Snapshot> {
        let fresh = |stamp: &[u64; 4]| self.current.load_full().filter(|s| s.stamp == *stamp);
        if let Some(found) = fresh(&stamp(objects)) {
            return found;
        }
        let mut parsed = self.parsed.lock();
        // the stamp is read before the objects: a change in between only causes one more rebuild
        let stamp = stamp(objects);
        if let Some(found) = fresh(&stamp) {
            return found;
        }
        let last = self.current.load_full();
        let built = Arc::new(parsed.build(stamp, last.as_deref(), objects));
        self.current.store(Some(built.clone()));
        built
    }
}

fn stamp(objects: &dyn Lister) -> [u64; 4] {
    RESOURCES.map(|resource| objects.changed_at(GROUP, resource))
}

impl Grants {
    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    fn visit<B>(&self, user: &UserInfo, each: &mut impl FnMut(&Grant) -> ControlFlow<B>) -> ControlFlow<B> {
        let by_user = self.users.get(user.name.as_str()).into_iter();
        let by_group = user.groups.iter().filter_map(|group| self.groups.get(group.as_str()));
        by_user.chain(by_group).flatten().try_for_each(each)
    }

    fn add(&mut self, grant: &Grant) {
        for subject in &grant.binding.subjects {
            let map = if subject.is_group { &mut self.groups } else { &mut self.users };
            match map.get_mut(&subject.name) {
                Some(list) => list.push(grant.clone()),
                None => {
                    map.insert(subject.name.clone(), vec![grant.clone()]);
                }
            }
        }
    }
}

/// What has been parsed, by `namespace/name` of the object, with the revision it was parsed from.
#[derive(Debug, Default)]
struct Parsed {
    cluster_roles: Cache<Role>,
    roles: Cache<Role>,
    cluster_bindings: Cache<Binding>,
    bindings: Cache<Binding>,
}

/// In key order, so that a namespace's are neighbours.
type Cache<T> = BTreeMap<(SmolStr, SmolStr), (u64, Arc<T>)>;

impl Parsed {
    /// Takes over what has changed since `last` was built.
    fn build(&mut self, stamp: [u64; 4], last: Option<&Snapshot>, objects: &dyn Lister) -> Snapshot {
        let list = |i: usize| {
            let moved = last.is_none_or(|last| last.stamp[i] != stamp[i]);
            moved.then(|| objects.list(GROUP, RESOURCES[i], None))
        };
        let cluster_roles = refresh(&mut self.cluster_roles, list(0), Role::read);
        let cluster_bindings = refresh(&mut self.cluster_bindings, list(1), Binding::read);
        let mut namespaces = refresh(&mut self.roles, list(2), Role::read);
        namespaces.append(&mut refresh(&mut self.bindings, list(3), Binding::read));
        let mut next = Snapshot { stamp, ..Snapshot::default() };
        // Any binding may name a cluster role.
        match last.filter(|_| cluster_roles.is_empty()) {
            Some(last) => {
                next.cluster = last.cluster.clone();
                next.namespaces = last.namespaces.clone();
            }
            None => namespaces.extend(self.bindings.keys().map(|(namespace, _)| namespace.clone())),
        }
        if !cluster_roles.is_empty() || !cluster_bindings.is_empty() {
            next.cluster = Arc::new(self.grants(self.cluster_bindings.values()));
        }
        for namespace in namespaces {
            let from = (namespace.clone(), SmolStr::default());
            let own = self.bindings.range(from..).take_while(|((n, _), _)| *n == namespace);
            let grants = self.grants(own.map(|(_, binding)| binding));
            if grants.is_empty() {
                next.namespaces.remove(&namespace);
            } else {
                next.namespaces.insert(namespace, Arc::new(grants));
            }
        }
        next
    }

    fn grants<'a>(&self, bindings: impl Iterator<Item = &'a (u64, Arc<Binding>)>) -> Grants {
        let mut grants = Grants::default();
        for grant in bindings.filter_map(|(_, binding)| self.grant(binding)) {
            grants.add(&grant);
        }
        grants
    }

    /// The binding with the rules of its role; None while the role does not exist.
    fn grant(&self, binding: &Arc<Binding>) -> Option<Grant> {
        let (cache, namespace) = match binding.role.kind.as_str() {
            "ClusterRole" => (&self.cluster_roles, SmolStr::default()),
            "Role" if !binding.namespace.is_empty() => (&self.roles, binding.namespace.clone()),
            _ => return None,
        };
        let (_, role) = cache.get(&(namespace, binding.role.name.clone()))?;
        Some(Grant { rules: role.rules.clone(), binding: binding.clone() })
    }
}

/// Brings a cache to the listed objects (None: nothing has changed); only new revisions are parsed. The
/// namespaces in which something is new, different or gone; the empty one stands for cluster scope.
fn refresh<T>(cache: &mut Cache<T>, objects: Option<Vec<Object>>, read: impl Fn(&Object) -> T) -> BTreeSet<SmolStr> {
    let mut changed = BTreeSet::new();
    let Some(objects) = objects else { return changed };
    let mut old = std::mem::take(cache);
    for object in objects {
        let key = (object.head.namespace.clone(), object.head.name.clone());
        let entry = match old.remove(&key) {
            Some(found) if found.0 == object.revision => found,
            _ => {
                changed.insert(key.0.clone());
                (object.revision, Arc::new(read(&object)))
            }
        };
        cache.insert(key, entry);
    }
    changed.extend(old.into_keys().map(|(namespace, _)| namespace));
    changed
}

#[derive(Debug)]
struct Role {
    rules: Arc<[Rule]>,
}

impl Role {
    fn read(object: &Object) -> Self {
        #[derive(Deserialize, Default)]
        struct View {
            #[serde(default)]
            rules: Option<Vec<Rule>>,
        }
        Self { rules: view::<View>(object).rules.unwrap_or_default().into() }
    }
}

#[derive(Debug)]
struct Binding {
    namespace: SmolStr,
    name: SmolStr,
    role: RoleRef,
    subjects: Vec<Subject>,
}

#[derive(Debug, Default, Deserialize)]
struct RoleRef {
    #[serde(default)]
    kind: SmolStr,
    #[serde(default)]
    name: SmolStr,
}

/// A user (service accounts by their user name) or a group.
#[derive(Debug)]
struct Subject {
    is_group: bool,
    name: SmolStr,
}

impl Binding {
    fn read(object: &Object) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase")]
        struct View {
            #[serde(default)]
            role_ref: RoleRef,
            #[serde(default)]
            subjects: Option<Vec<SubjectView>>,
        }
        let found: View = view(object);
        Self {
            namespace: object.head.namespace.clone(),
            name: object.head.name.clone(),
            role: found.role_ref,
            subjects: found.subjects.unwrap_or_default().into_iter().filter_map(SubjectView::resolve).collect(),
        }
    }
}

#[derive(Deserialize)]
struct SubjectView {
    #[serde(default)]
    kind: SmolStr,
    #[serde(default)]
    name: SmolStr,
    #[serde(default)]
    namespace: SmolStr,
}

impl SubjectView {
    fn resolve(self) -> Option<Subject> {
        match self.kind.as_str() {
            "User" => Some(Subject { is_group: false, name: self.name }),
            "Group" => Some(Subject { is_group: true, name: self.name }),
            "ServiceAccount" if !self.namespace.is_empty() => Some(Subject {
                is_group: false,
                name: format_smolstr!("system:serviceaccount:{}:{}", self.namespace, self.name),
            }),
            _ => None,
        }
    }
}

/// A stored object that does not fit its own type grants nothing; that is a defect worth a line.
fn view<T: DeserializeOwned + Default>(object: &Object) -> T {
    object.view().unwrap_or_else(|error| {
        tracing::error!(object = %object.head.key(), %error, "a stored role or binding cannot be read and grants nothing");
        T::default()
    })
}
