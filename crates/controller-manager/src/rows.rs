//! Small extracts of objects, made once per event, so that plans rarely decode.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use kybern_api::meta::selector::Selector;
use kybern_api::object::Object;
use kybern_client::store::RowFn;
use kybern_client::transport::Resource;
use kybern_client::typed;
use kybern_reconcile::steady::Steady;
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::HashMap;
use std::sync::Arc;

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Phase {
    /// Not all containers have been started.
    #[default]
    Pending,
    /// Its node does not answer.
    Unknown,
    /// Started.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
}

impl Phase {
    fn parse(text: &str) -> Self {
        match text {
            "Running" => Self::Running,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            "Unknown" => Self::Unknown,
            _ => Self::Pending,
        }
    }
    /// Will it never run again?
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// What controllers ask of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodRow {
    /// status.phase
    pub phase: Phase,
    /// Is the Ready condition true?
    pub ready: bool,
    /// Since when it is ready, seconds since the epoch.
    pub ready_since: i64,
    /// spec.nodeName, or empty.
    pub node: SmolStr,
    /// status.podIPs
    pub ips: Vec<SmolStr>,
    /// spec.hostname, if spec.subdomain is set; with it.
    pub host: Option<(SmolStr, SmolStr)>,
    /// Restarts of all containers.
    pub restarts: i32,
    /// The annotation controller.kubernetes.io/pod-deletion-cost.
    pub deletion_cost: i32,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodParts {
    metadata: MetaParts,
    spec: SpecParts,
    status: StatusParts,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct MetaParts {
    annotations: Option<HashMap<SmolStr, SmolStr>>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SpecParts {
    node_name: SmolStr,
    hostname: SmolStr,
    subdomain: SmolStr,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct StatusParts {
    phase: SmolStr,
    conditions: Vec<ConditionParts>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<IpParts>,
    container_statuses: Vec<RestartParts>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ConditionParts {
    #[serde(rename = "type")]
    kind: SmolStr,
    status: SmolStr,
    last_transition_time: Option<Timestamp>,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct IpParts {
    ip: SmolStr,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RestartParts {
    restart_count: i32,
}

impl PodRow {
    /// The row of a pod. One that cannot be read (a defect of the store) reads as pending.
    pub fn of(object: &Object) -> Self {
        let parts: PodParts = object.view().unwrap_or_default();
        let ready = parts.status.conditions.iter().find(|c| c.kind == "Ready");
        let cost =
            parts.metadata.annotations.unwrap_or_default().get("controller.kubernetes.io/pod-deletion-cost").cloned();
        let SpecParts { node_name, hostname, subdomain } = parts.spec;
        Self {
            phase: Phase::parse(&parts.status.phase),
            ready: ready.is_some_and(|c| c.status == "True"),
            ready_since: ready.and_then(|c| c.last_transition_time).map_or(0, |t| t.as_second()),
            node: node_name,
            ips: parts.status.pod_ips.into_iter().map(|p| p.ip).filter(|ip| !ip.is_empty()).collect(),
            host: (!hostname.is_empty() && !subdomain.is_empty()).then_some((hostname, subdomain)),
            restarts: parts.status.container_statuses.iter().map(|c| c.restart_count).sum(),
            deletion_cost: cost.and_then(|c| c.parse().ok()).unwrap_or(0),
        }
    }
}

/// The selector of an object that selects pods or replica sets.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectorRow(pub Selector);

/// When a lease was last seen to change here, in steady time: how fresh a node's heartbeat is does
/// not depend on the node's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseRow {
    /// Steady time of the last change seen.
    pub seen: Timestamp,
}

/// How the shared informers make their rows.
pub fn rows(steady: &Steady) -> HashMap<Resource, RowFn> {
    let steady = steady.clone();
    let label_selector: RowFn = Arc::new(|o| Arc::new(SelectorRow(read_selector(o, Selector::from_object))));
    let plain_selector: RowFn = Arc::new(|o| Arc::new(SelectorRow(read_selector(o, |s| Ok(Selector::from_map(s))))));
    HashMap::from([
        (
            typed::resource::<Pod>(),
            Arc::new(|o: &Object| -> kybern_client::store::Row { Arc::new(PodRow::of(o)) }) as RowFn,
        ),
        (typed::resource::<ReplicaSet>(), Arc::clone(&label_selector)),
        (typed::resource::<Deployment>(), label_selector),
        (typed::resource::<Service>(), plain_selector),
        (
            typed::resource::<Lease>(),
            Arc::new(move |_: &Object| -> kybern_client::store::Row { Arc::new(LeaseRow { seen: steady.now() }) }),
        ),
    ])
}

/// `spec.selector`; one that cannot be read selects nothing.
fn read_selector(object: &Object, read: fn(Option<&Value>) -> Result<Selector, String>) -> Selector {
    #[derive(Deserialize)]
    struct Parts {
        #[serde(default)]
        spec: Spec,
    }
    #[derive(Deserialize, Default)]
    struct Spec {
        selector: Option<Value>,
    }
    let selector = object.view::<Parts>().ok().and_then(|p| p.spec.selector);
    read(selector.as_ref()).unwrap_or(Selector::Nothing)
}
