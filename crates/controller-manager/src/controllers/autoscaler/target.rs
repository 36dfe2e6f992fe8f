//! What an autoscaler scales.

use crate::kinds::{by_owner, has_scale};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kybern_api::meta::selector::Selector;
use kybern_client::store::{Item, Name};
use kybern_reconcile::plan::Ref;
use kybern_reconcile::view::View;
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;

/// The target's scale.
pub(super) struct Target {
    pub(super) at: Ref,
    /// How many pods it asks for.
    pub(super) replicas: i32,
    /// How many it has.
    pub(super) present: i32,
    pub(super) selector: Selector,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Parts {
    spec: Spec,
    status: Counts,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    replicas: Option<i32>,
    selector: Option<Value>,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Counts {
    replicas: i32,
}

impl Target {
    /// # Errors
    /// Why there is none, in Kubernetes' words.
    pub(super) fn find(view: &View, scaler: &HorizontalPodAutoscaler) -> Result<Self, String> {
        let wanted = scaler.spec.scale_target_ref.clone();
        let version = wanted.api_version.unwrap_or_default();
        let group = version.split_once('/').map_or("", |(g, _)| g);
        let no_match = || match group {
            "" => format!("no matches for kind {:?} in group \"\"", wanted.kind),
            _ => format!("no matches for kind {:?} in group {group:?}", wanted.kind),
        };
        let resource = by_owner(&version, &wanted.kind).ok_or_else(no_match)?.resource;
        let named = kybern_api::error::qualified(&resource.group, &resource.plural);
        let missing = || format!("{named} {:?} not found", wanted.name);
        if !has_scale(&resource) {
            return Err("the server could not find the requested resource".into());
        }
        let namespace = scaler.metadata.namespace.clone().unwrap_or_default();
        let store = view.store(&resource.group, &resource.plural);
        let item = store.get(&Name::new(namespace.clone(), wanted.name.clone())).ok_or_else(missing)?;
        let at = Ref { resource: resource.clone(), namespace: namespace.into(), name: wanted.name.into() };
        Self::read(at, item)
    }

    fn read(at: Ref, item: &Item) -> Result<Self, String> {
        let parts: Parts = item.object.view().map_err(|e| e.to_string())?;
        let selector = read_selector(parts.spec.selector.as_ref())?;
        Ok(Self { at, replicas: parts.spec.replicas.unwrap_or(1), present: parts.status.replicas, selector })
    }
}

/// A LabelSelector, or a plain map of labels, which older kinds select by.
fn read_selector(selector: Option<&Value>) -> Result<Selector, String> {
    let is_object = selector.is_some_and(|s| s.get("matchLabels").is_some() || s.get("matchExpressions").is_some());
    if is_object { Selector::from_object(selector) } else { Ok(Selector::from_map(selector)) }
}

/// The name of what an autoscaler scales.
pub(super) fn name(scaler: &Item) -> Option<SmolStr> {
    #[derive(Deserialize)]
    struct Parts {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        scale_target_ref: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        name: SmolStr,
    }
    scaler.object.view::<Parts>().ok().map(|p| p.spec.scale_target_ref.name)
}

/// Other autoscalers of the namespace whose targets select some of these pods, as `namespace/name`.
pub(super) fn rivals<'a>(view: &'a View, scaler: &'a HorizontalPodAutoscaler, pods: &[&Item]) -> Vec<String> {
    let namespace = scaler.metadata.namespace.as_deref().unwrap_or_default();
    let own = scaler.metadata.uid.as_deref().unwrap_or_default();
    let others = view.of::<HorizontalPodAutoscaler>().in_namespace(namespace);
    let contests = |i: &&Item| {
        let Ok(other) = i.object.view::<HorizontalPodAutoscaler>() else { return false };
        Target::find(view, &other).is_ok_and(|t| pods.iter().any(|p| t.selector.matches(&*p.object.head)))
    };
    let others = others.filter(|i| i.object.head.uid != own && i.object.head.deleting.is_none()).filter(contests);
    others.map(|i| i.object.head.key()).collect()
}
