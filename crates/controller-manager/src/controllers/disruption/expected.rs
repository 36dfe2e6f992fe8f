//! How many pods a budget's selection should have, and how many of them must be healthy.

use crate::kinds::{by_owner, has_scale};
use crate::shares::{Round, share};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kybern_api::error::qualified;
use kybern_api::object::{Head, Owner};
use kybern_client::store::{Item, Name};
use kybern_client::transport::Resource;
use kybern_reconcile::view::View;
use serde::Deserialize;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// What a budget asks of its selection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// Pods that should be there.
    pub(super) pods: i32,
    /// Pods that must be healthy.
    pub(super) healthy: i32,
    /// Are there pods that nothing manages, so that nobody knows how many there should be?
    pub(super) unmanaged: bool,
}

/// # Errors
/// Why the owners' scale cannot be told.
pub(super) fn expected(view: &View, budget: &PodDisruptionBudget, pods: &[&Item]) -> Result<Expected, String> {
    let spec = budget.spec.clone().unwrap_or_default();
    if let Some(most) = &spec.max_unavailable {
        let scale = Scale::of(view, pods)?;
        let healthy = scale.total.saturating_sub(share(most, scale.total, Round::Up)).max(0);
        return Ok(Expected { pods: scale.total, healthy, unmanaged: scale.unmanaged });
    }
    match &spec.min_available {
        None => Ok(Expected::default()),
        Some(IntOrString::Int(least)) => {
            let pods = i32::try_from(pods.len()).unwrap_or(i32::MAX);
            Ok(Expected { pods, healthy: *least, unmanaged: false })
        }
        Some(least) => {
            let scale = Scale::of(view, pods)?;
            let healthy = share(least, scale.total, Round::Up);
            Ok(Expected { pods: scale.total, healthy, unmanaged: scale.unmanaged })
        }
    }
}

/// The replicas that the pods' owners ask for, each owner counted once.
struct Scale {
    total: i32,
    unmanaged: bool,
}

impl Scale {
    fn of(view: &View, pods: &[&Item]) -> Result<Self, String> {
        let mut unmanaged = false;
        let mut seen: BTreeMap<SmolStr, i32> = BTreeMap::new();
        for pod in pods {
            match pod.object.head.controller() {
                None => unmanaged = true,
                Some(owner) if seen.contains_key(&owner.uid) => {}
                Some(owner) => {
                    let (uid, replicas) = scale(view, &pod.object.head, owner)?;
                    // Two sets of one Deployment have the same scale: the Deployment's.
                    seen.insert(owner.uid.clone(), if seen.contains_key(&uid) { 0 } else { replicas });
                    seen.entry(uid).or_insert(0);
                }
            }
        }
        let total = seen.values().fold(0i32, |sum, n| sum.saturating_add(*n));
        Ok(Self { total, unmanaged })
    }
}

/// The size of what manages a pod in the end: the pod's owner, or the owner's own owner where that
/// sets its size. The uid tells it from others.
fn scale(view: &View, pod: &Head, owner: &Owner) -> Result<(SmolStr, i32), String> {
    let missing = || format!("found no controllers for pod {:?}", pod.name.as_str());
    let resource = by_owner(&owner.api_version, &owner.kind).ok_or_else(missing)?.resource;
    if !has_scale(&resource) {
        let name = qualified(&resource.group, &resource.plural);
        return Err(format!("{name} does not implement the scale subresource"));
    }
    let item = find(view, &resource, &pod.namespace, owner).ok_or_else(missing)?;
    let above = item.object.head.controller().and_then(|above| {
        let resource = by_owner(&above.api_version, &above.kind)?.resource;
        has_scale(&resource).then_some((resource, above))
    });
    let item = match above {
        Some((resource, above)) => find(view, &resource, &pod.namespace, above).ok_or_else(missing)?,
        None => item,
    };
    Ok((item.object.head.uid.clone(), replicas(item)?))
}

fn find<'a>(view: &'a View, resource: &Resource, namespace: &SmolStr, owner: &Owner) -> Option<&'a Item> {
    let store = view.store(&resource.group, &resource.plural);
    store.get(&Name::new(namespace.clone(), owner.name.clone())).filter(|i| i.object.head.uid == owner.uid)
}

fn replicas(item: &Item) -> Result<i32, String> {
    #[derive(Deserialize)]
    struct Parts {
        #[serde(default)]
        spec: Spec,
    }
    #[derive(Deserialize, Default)]
    struct Spec {
        replicas: Option<i32>,
    }
    let parts: Parts = item.object.view().map_err(|e| format!("{}: {e}", item.object.head.key()))?;
    // A size that is left out is one.
    Ok(parts.spec.replicas.unwrap_or(1))
}
