//! Reports what a namespace uses of its quotas.
//!
//! What may still be taken is decided where objects are written, by counters of their own; the status
//! shows people what they used. Writing it also puts right counters that missed something.

use crate::kinds::Collection;
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use kybern_api::kind::KindDef;
use kybern_api::meta::quantity::Quantity;
use kybern_api::quota::{self, Amounts, Quota};
use kybern_client::store::{Delta, Item};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Plan, change};
use kybern_reconcile::view::{View, World, decode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The definition. `kinds`: every collection objects can be in.
pub(crate) fn def(kinds: &[Collection]) -> ControllerDef {
    let counted: Arc<[&'static KindDef]> = kinds
        .iter()
        .filter_map(|k| kybern_api::kinds::find(&k.resource.group, &k.resource.plural))
        .filter(|def| quota::countable(def))
        .collect();
    let mut watches = vec![Watch::mapped::<ResourceQuota>(quotas_beside)];
    let others = kinds.iter().filter(|k| k.namespaced && k.resource.plural != ResourceQuota::URL_PATH_SEGMENT);
    watches.extend(others.filter_map(|k| {
        let def = kybern_api::kinds::find(&k.resource.group, &k.resource.plural)?;
        let keys = Arc::new(move |delta: &Delta, view: &View| concerned(def, delta, view));
        Some(Watch { resource: k.resource.clone(), keys })
    }));
    ControllerDef {
        name: "resourcequota-controller",
        watches,
        writes: vec![Access::sub::<ResourceQuota>("status", &["update", "patch"])],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(move |world, key| plan(world, key, &counted)),
    }
}

/// A quota that comes or goes counts in the others.
fn quotas_beside(delta: &Delta, view: &View) -> Vec<Key> {
    let Some(latest) = delta.latest() else { return Vec::new() };
    if delta.old.is_some() && delta.new.is_some() {
        return vec![Key::of(latest)];
    }
    view.of::<ResourceQuota>().in_namespace(&latest.object.head.namespace).map(Key::of).collect()
}

/// The quotas that count an object differently now.
fn concerned(def: &KindDef, delta: &Delta, view: &View) -> Vec<Key> {
    let Some(latest) = delta.latest() else { return Vec::new() };
    let quotas = || view.of::<ResourceQuota>().in_namespace(&latest.object.head.namespace);
    let in_place = delta.old.is_some() && delta.new.is_some();
    if quotas().next().is_none() || (in_place && !def.strategy.usage_varies()) {
        return Vec::new();
    }
    if !in_place {
        return quotas().map(Key::of).collect();
    }
    let tree = |i: &Option<Item>| i.as_ref().and_then(|i| i.object.tree().ok()).unwrap_or_default();
    let (old, new) = (tree(&delta.old), tree(&delta.new));
    let differs = |i: &&Item| {
        let quota = Quota::of(&i.object.tree().unwrap_or_default());
        quota.counted(def, &old) != quota.counted(def, &new)
    };
    quotas().filter(differs).map(Key::of).collect()
}

fn plan(world: &World<'_>, key: &Key, kinds: &[&'static KindDef]) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<ResourceQuota>(&key.namespace, &key.name) else { return Ok(plan) };
    let stored: ResourceQuota = decode(item)?;
    let quota = Quota::of(&decode::<Value>(item)?);
    let used = used(world.view, &key.namespace, &quota, kinds)?;
    let mut new = stored.clone();
    new.status = Some(ResourceQuotaStatus {
        hard: stored.spec.as_ref().and_then(|s| s.hard.clone()),
        used: Some(used.into_iter().map(|(name, amount)| (name.to_string(), Amount(amount.to_string()))).collect()),
    });
    plan.act(change(&stored, &new, "status")?);
    Ok(plan)
}

fn used(view: &View, namespace: &str, quota: &Quota, kinds: &[&KindDef]) -> Result<Amounts, Error> {
    let counts: BTreeSet<_> = kinds.iter().map(|def| quota::count_name(def)).collect();
    // A count of something that is not served is not reported.
    let mut used = quota.nothing(|name| !name.starts_with("count/") || counts.contains(name));
    for def in kinds {
        let objects = view.store(&def.group, &def.plural).in_namespace(namespace);
        if def.strategy.usage_varies() {
            for item in objects {
                quota::add(&mut used, &quota.counted(def, &decode::<Value>(item)?));
            }
        } else if quota.scopes.is_empty() {
            let number = i64::try_from(objects.count()).unwrap_or(i64::MAX);
            let each = quota::usage(def, &Value::Null).into_keys().map(|name| (name, Quantity::from_int(number)));
            let bounded: BTreeMap<_, _> = each.filter(|(name, _)| quota.hard.contains_key(name)).collect();
            quota::add(&mut used, &bounded);
        }
    }
    Ok(used)
}
