//! A controller is declared once: what it watches and writes, and its pure plan function.

use crate::Error;
use crate::plan::Plan;
use crate::view::{View, World};
use k8s_openapi::Resource as Kind;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kybern_client::store::{Delta, Item};
use kybern_client::transport::Resource;
use kybern_client::typed;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a plan is about: usually an object of the primary kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key {
    /// `plural.group/version`-like word where a controller works on many kinds; otherwise empty.
    pub kind: SmolStr,
    /// Namespace or empty.
    pub namespace: SmolStr,
    /// Name.
    pub name: SmolStr,
}

impl Key {
    /// A key of the primary kind.
    pub fn new(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        Self { kind: SmolStr::default(), namespace: namespace.into(), name: name.into() }
    }
    /// The key of an object of the primary kind.
    pub fn of(item: &Item) -> Self {
        Self::new(item.object.head.namespace.clone(), item.object.head.name.clone())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [&self.kind, &self.namespace, &self.name];
        for (i, part) in parts.into_iter().filter(|p| !p.is_empty()).enumerate() {
            write!(f, "{}{part}", if i > 0 { "/" } else { "" })?;
        }
        Ok(())
    }
}

/// Which keys a change concerns.
pub type KeyFn = Arc<dyn Fn(&Delta, &View) -> Vec<Key> + Send + Sync>;

/// The pure heart of a controller.
pub type PlanFn = Arc<dyn Fn(&World<'_>, &Key) -> Result<Plan, Error> + Send + Sync>;

/// One resource a controller watches.
#[derive(Clone)]
pub struct Watch {
    /// The resource, all of it.
    pub resource: Resource,
    /// Which keys a change concerns.
    pub keys: KeyFn,
}

impl Watch {
    /// Any mapping.
    pub fn mapped<K: Kind>(keys: impl Fn(&Delta, &View) -> Vec<Key> + Send + Sync + 'static) -> Self {
        Self { resource: typed::resource::<K>(), keys: Arc::new(keys) }
    }
    /// The kind the keys are about: every change concerns the object itself.
    pub fn primary<K: Kind>() -> Self {
        Self::mapped::<K>(|delta, _| delta.latest().map(Key::of).into_iter().collect())
    }
    /// Only looked at in plans; its changes concern nobody.
    pub fn read<K: Kind>() -> Self {
        Self::mapped::<K>(|_, _| Vec::new())
    }
    /// Objects `K` managed by objects of the kind `O`: a change concerns the old and the new owner.
    pub fn owned<K: Kind, O: Kind>() -> Self {
        Self::mapped::<K>(|delta, _| {
            let owner = |item: &Item| {
                let owner =
                    item.object.head.controller().filter(|o| o.kind == O::KIND && o.api_version == O::API_VERSION)?;
                Some(Key::new(item.object.head.namespace.clone(), owner.name.clone()))
            };
            let mut keys: Vec<Key> = [&delta.old, &delta.new].into_iter().flatten().filter_map(owner).collect();
            keys.dedup();
            keys
        })
    }
}

/// Something a controller writes; becomes a rule of its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// API group; `*` for all.
    pub group: String,
    /// Plural, with `/subresource` where it is one; `*` for all.
    pub resource: String,
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// Only these names; empty: all.
    pub names: Vec<String>,
}

impl Access {
    /// Access to a typed kind.
    pub fn to<K: Kind>(verbs: &'static [&'static str]) -> Self {
        Self { group: K::GROUP.into(), resource: K::URL_PATH_SEGMENT.into(), verbs, names: Vec::new() }
    }
    /// Access to a subresource of a typed kind.
    pub fn sub<K: Kind>(subresource: &str, verbs: &'static [&'static str]) -> Self {
        Self { resource: format!("{}/{subresource}", K::URL_PATH_SEGMENT), ..Self::to::<K>(verbs) }
    }
    /// Access to everything.
    pub fn everything(verbs: &'static [&'static str]) -> Self {
        Self { group: "*".into(), resource: "*".into(), verbs, names: Vec::new() }
    }
    /// Restricted to objects of these names.
    #[must_use]
    pub fn named(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }
}

/// A controller.
#[derive(Clone)]
pub struct ControllerDef {
    /// Name: of its service account in `kube-system`, of its role `system:controller:NAME`, of its
    /// field manager and in logs.
    pub name: &'static str,
    /// What it watches, the primary kind first.
    pub watches: Vec<Watch>,
    /// What it writes.
    pub writes: Vec<Access>,
    /// Keys that must be looked at even if no object leads to them.
    pub seeds: Vec<Key>,
    /// How many keys it works on at once. 1 where plans of different keys may not overlap.
    pub workers: usize,
    /// The plan function.
    pub plan: PlanFn,
}

/// What a component may do: the rules of a `system:controller:NAME` role.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// Name of the component; its identity is the service account `kube-system/NAME`.
    pub name: &'static str,
    /// Rules.
    pub rules: Vec<PolicyRule>,
}

/// The role that follows from a definition: reading what it watches, writing what it writes, events.
pub fn role(def: &ControllerDef) -> Role {
    let mut rules: Vec<PolicyRule> = read_rules(def.watches.iter().map(|w| &w.resource));
    rules.extend(def.writes.iter().map(rule));
    rules.extend(["", "events.k8s.io"].map(|group| {
        rule(&Access {
            group: group.into(),
            resource: "events".into(),
            verbs: &["create", "patch", "update"],
            names: Vec::new(),
        })
    }));
    Role { name: def.name, rules }
}

/// get, list and watch of these resources, one rule per group.
pub fn read_rules<'a>(resources: impl Iterator<Item = &'a Resource>) -> Vec<PolicyRule> {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for r in resources {
        let plurals = groups.entry(&r.group).or_default();
        if !plurals.contains(&r.plural) {
            plurals.push(r.plural.clone());
        }
    }
    let verbs = || ["get", "list", "watch"].map(str::to_owned).to_vec();
    groups
        .into_iter()
        .map(|(group, plurals)| PolicyRule {
            api_groups: Some(vec![group.to_owned()]),
            resources: Some(plurals),
            verbs: verbs(),
            ..PolicyRule::default()
        })
        .collect()
}

/// The RBAC rule of an access.
pub fn rule(access: &Access) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![access.group.clone()]),
        resources: Some(vec![access.resource.clone()]),
        resource_names: (!access.names.is_empty()).then(|| access.names.clone()),
        verbs: access.verbs.iter().map(|v| (*v).to_owned()).collect(),
        ..PolicyRule::default()
    }
}
