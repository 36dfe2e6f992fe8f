//! From subjects to rules. Rebuilt when a role or binding has changed, and then only what changed is
//! parsed again; a lookup is two or three hash reads per group of the user.

use crate::rules::Rule;
use arc_swap::ArcSwapOption;
use kybern_api::attributes::UserInfo;
use kybern_api::object::Object;
use kybern_api::seam::Lister;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use smol_str::{SmolStr, format_smolstr};
use std::collections::HashMap;
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
    cluster: Grants,
    namespaces: HashMap<SmolStr, Grants>,
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
        let built = Arc::new(parsed.build(stamp, objects));
        self.current.store(Some(built.clone()));
        built
    }
}

fn stamp(objects: &dyn Lister) -> [u64; 4] {
    RESOURCES.map(|resource| objects.changed_at(GROUP, resource))
}

impl Grants {
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

type Cache<T> = HashMap<(SmolStr, SmolStr), (u64, Arc<T>)>;

impl Parsed {
    fn build(&mut self, stamp: [u64; 4], objects: &dyn Lister) -> Snapshot {
        refresh(&mut self.cluster_roles, objects.list(GROUP, RESOURCES[0], None), Role::read);
        refresh(&mut self.cluster_bindings, objects.list(GROUP, RESOURCES[1], None), Binding::read);
        refresh(&mut self.roles, objects.list(GROUP, RESOURCES[2], None), Role::read);
        refresh(&mut self.bindings, objects.list(GROUP, RESOURCES[3], None), Binding::read);
        let mut snapshot = Snapshot { stamp, ..Snapshot::default() };
        for (_, binding) in self.cluster_bindings.values() {
            if let Some(grant) = self.grant(binding) {
                snapshot.cluster.add(&grant);
            }
        }
        for (_, binding) in self.bindings.values() {
            if let Some(grant) = self.grant(binding) {
                snapshot.namespaces.entry(binding.namespace.clone()).or_default().add(&grant);
            }
        }
        snapshot
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

/// Brings a cache to the listed objects; only new revisions are parsed.
fn refresh<T>(cache: &mut Cache<T>, objects: Vec<Object>, read: impl Fn(&Object) -> T) {
    let mut old = std::mem::take(cache);
    cache.reserve(objects.len());
    for object in objects {
        let key = (object.head.namespace.clone(), object.head.name.clone());
        let entry = match old.remove(&key) {
            Some(found) if found.0 == object.revision => found,
            _ => (object.revision, Arc::new(read(&object))),
        };
        cache.insert(key, entry);
    }
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
