//! Small extracts of objects, made once per event, so that plans rarely decode.

use crate::controllers::{ingress, storage};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service, Taint,
};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kybern_api::meta::selector::Selector;
use kybern_api::object::Object;
use kybern_client::store::RowFn;
use kybern_client::transport::Resource;
use kybern_client::typed;
use kybern_reconcile::steady::Steady;
use serde::Deserialize;
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};
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
    /// Of a decoded pod.
    pub fn of(pod: &Pod) -> Self {
        Self::parse(pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default())
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
    /// Since when it is marked for a disruption (condition DisruptionTarget), seconds since the epoch.
    pub disrupted: Option<i64>,
    /// Names of the persistent volume claims it uses.
    pub claims: Vec<SmolStr>,
    /// Is one of them made for it?
    pub has_ephemeral: bool,
    /// What a pod of a job has besides.
    pub job: Option<Box<JobPod>>,
}

/// What the job controller asks of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobPod {
    /// The annotation batch.kubernetes.io/job-completion-index.
    pub index: Option<u32>,
    /// Counted and ignored failures of earlier pods of the index, from annotations.
    pub failures: (i32, i32),
    /// When it ended (or was asked to), seconds since the epoch; when it was made, as long as it runs.
    pub finished: i64,
    /// Restarts of all init containers.
    pub init_restarts: i32,
}

impl JobPod {
    /// Failures of earlier pods of the index, ignored ones too.
    pub fn failures_of_index(&self) -> i32 {
        self.failures.0.saturating_add(self.failures.1)
    }
    fn of(object: &Object, meta: &MetaParts, status: &StatusParts) -> Option<Box<Self>> {
        object.head.controller().filter(|o| o.kind == "Job")?;
        let annotation = |key: &str| meta.annotations.as_ref()?.get(key).map(SmolStr::as_str);
        let number = |key: &str| annotation(key).and_then(|n| n.parse().ok()).unwrap_or(0);
        Some(Box::new(Self {
            index: annotation("batch.kubernetes.io/job-completion-index").and_then(|i| i.parse().ok()),
            failures: (
                number("batch.kubernetes.io/job-index-failure-count"),
                number("batch.kubernetes.io/job-index-ignored-failure-count"),
            ),
            finished: finish_time(object, meta, status),
            init_restarts: status.init_container_statuses.iter().map(|c| c.restart_count).sum(),
        }))
    }
}

/// When the last container ended; else since when the pod is not ready; else when it was deleted.
fn finish_time(object: &Object, meta: &MetaParts, status: &StatusParts) -> i64 {
    let ends: Option<Vec<i64>> = status.container_statuses.iter().map(RestartParts::ended).collect();
    let not_ready = || {
        let ready = status.conditions.iter().find(|c| c.kind == "Ready" && c.status == "False");
        ready.and_then(|c| c.last_transition_time).map(Timestamp::as_second)
    };
    let deleted = || object.head.deleting.map(|at| at - meta.deletion_grace_period_seconds);
    let ended = ends.and_then(|ends| ends.into_iter().max());
    ended.or_else(not_ready).or_else(deleted).unwrap_or(object.head.created)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodParts {
    metadata: MetaParts,
    spec: SpecParts,
    status: StatusParts,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct MetaParts {
    annotations: Option<HashMap<SmolStr, SmolStr>>,
    deletion_grace_period_seconds: i64,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SpecParts {
    node_name: SmolStr,
    hostname: SmolStr,
    subdomain: SmolStr,
    volumes: Vec<VolumeParts>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct VolumeParts {
    name: SmolStr,
    persistent_volume_claim: Option<ClaimParts>,
    ephemeral: Option<serde::de::IgnoredAny>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClaimParts {
    claim_name: SmolStr,
}

impl VolumeParts {
    /// The claim behind the volume; that of an ephemeral one is named after pod and volume.
    fn claim(&self, pod: &str) -> Option<SmolStr> {
        let ephemeral = || self.ephemeral.as_ref().map(|_| format_smolstr!("{pod}-{}", self.name));
        self.persistent_volume_claim.as_ref().map(|c| c.claim_name.clone()).or_else(ephemeral)
    }
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct StatusParts {
    phase: SmolStr,
    conditions: Vec<ConditionParts>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<IpParts>,
    container_statuses: Vec<RestartParts>,
    init_container_statuses: Vec<RestartParts>,
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
    state: StateParts,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct StateParts {
    terminated: Option<EndParts>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EndParts {
    finished_at: Option<Timestamp>,
}

impl RestartParts {
    fn ended(&self) -> Option<i64> {
        self.state.terminated.as_ref()?.finished_at.map(Timestamp::as_second)
    }
}

impl PodRow {
    /// The row of a pod. One that cannot be read (a defect of the store) reads as pending.
    pub fn of(object: &Object) -> Self {
        let parts: PodParts = object.view().unwrap_or_default();
        let ready = parts.status.conditions.iter().find(|c| c.kind == "Ready");
        let job = JobPod::of(object, &parts.metadata, &parts.status);
        let disrupted = parts.status.conditions.iter().find(|c| c.kind == "DisruptionTarget" && c.status == "True");
        let disrupted = disrupted.map(|c| c.last_transition_time.map_or(0, |t| t.as_second()));
        let cost =
            parts.metadata.annotations.unwrap_or_default().get("controller.kubernetes.io/pod-deletion-cost").cloned();
        let SpecParts { node_name, hostname, subdomain, volumes } = parts.spec;
        Self {
            phase: Phase::parse(&parts.status.phase),
            ready: ready.is_some_and(|c| c.status == "True"),
            ready_since: ready.and_then(|c| c.last_transition_time).map_or(0, |t| t.as_second()),
            node: node_name,
            ips: parts.status.pod_ips.into_iter().map(|p| p.ip).filter(|ip| !ip.is_empty()).collect(),
            host: (!hostname.is_empty() && !subdomain.is_empty()).then_some((hostname, subdomain)),
            restarts: parts.status.container_statuses.iter().map(|c| c.restart_count).sum(),
            deletion_cost: cost.and_then(|c| c.parse().ok()).unwrap_or(0),
            has_ephemeral: volumes.iter().any(|v| v.ephemeral.is_some()),
            claims: volumes.iter().filter_map(|v| v.claim(&object.head.name)).collect(),
            job,
            disrupted,
        }
    }
}

/// What controllers ask of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeRow {
    /// spec.taints
    pub taints: Vec<Taint>,
    /// Is the Ready condition true?
    pub ready: bool,
    /// Region and zone; empty where there are none.
    pub zone: SmolStr,
    /// Since when its state drives pods out, seconds since the epoch.
    pub driven: Option<i64>,
    /// Is it declared out of service?
    pub out_of_service: bool,
    /// metadata.annotations: node.alpha.kubernetes.io/ttl
    pub ttl: Option<SmolStr>,
    /// spec.podCIDR
    pub pod_range: Option<IpNet>,
    /// Addresses that clients outside reach it at: the external ones, or else the internal ones.
    pub addresses: Vec<SmolStr>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeParts {
    metadata: MetaParts,
    spec: NodeSpecParts,
    status: NodeStatusParts,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeSpecParts {
    taints: Vec<Taint>,
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<SmolStr>,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeStatusParts {
    conditions: Vec<ConditionParts>,
    addresses: Vec<AddressParts>,
}
#[derive(Deserialize)]
struct AddressParts {
    #[serde(rename = "type")]
    kind: SmolStr,
    address: SmolStr,
}

fn outside(all: &[AddressParts]) -> Vec<SmolStr> {
    let of = |kind: &str| all.iter().filter(|a| a.kind == kind).map(|a| a.address.clone()).collect::<Vec<_>>();
    Some(of("ExternalIP")).filter(|external| !external.is_empty()).unwrap_or_else(|| of("InternalIP"))
}

/// Taints of a node that is not well.
const UNWELL: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// The annotation that tells a node how long it may keep what it has read.
pub const TTL: &str = "node.alpha.kubernetes.io/ttl";

impl NodeRow {
    /// The row of a node. One that cannot be read (a defect of the store) reads as not ready.
    pub fn of(object: &Object) -> Self {
        let parts: NodeParts = object.view().unwrap_or_default();
        let label = |key: &str| object.head.label(key).unwrap_or_default();
        let (region, zone) = (label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"));
        let drives = |t: &&Taint| t.effect == "NoExecute" && UNWELL.contains(&t.key.as_str());
        let driven =
            parts.spec.taints.iter().filter(drives).map(|t| t.time_added.as_ref().map_or(0, |t| t.0.as_second()));
        Self {
            ready: parts.status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True"),
            zone: if region.is_empty() && zone.is_empty() {
                SmolStr::default()
            } else {
                format_smolstr!("{region}:{zone}")
            },
            driven: driven.min(),
            out_of_service: parts.spec.taints.iter().any(|t| t.key == OUT_OF_SERVICE),
            ttl: parts.metadata.annotations.unwrap_or_default().get(TTL).cloned(),
            pod_range: parts.spec.pod_cidr.and_then(|range| range.parse().ok()),
            addresses: outside(&parts.status.addresses),
            taints: parts.spec.taints,
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
        (typed::resource::<StatefulSet>(), Arc::clone(&label_selector)),
        (typed::resource::<DaemonSet>(), Arc::clone(&label_selector)),
        (typed::resource::<Deployment>(), Arc::clone(&label_selector)),
        (typed::resource::<Job>(), Arc::clone(&label_selector)),
        (typed::resource::<PodDisruptionBudget>(), label_selector),
        (typed::resource::<ReplicationController>(), Arc::clone(&plain_selector)),
        (typed::resource::<Service>(), plain_selector),
        (typed::resource::<PersistentVolume>(), Arc::new(storage::volume_row) as RowFn),
        (typed::resource::<PersistentVolumeClaim>(), Arc::new(storage::claim_row) as RowFn),
        (typed::resource::<StorageClass>(), Arc::new(storage::class_row) as RowFn),
        (typed::resource::<Ingress>(), Arc::new(ingress::row) as RowFn),
        (
            typed::resource::<Node>(),
            Arc::new(|o: &Object| -> kybern_client::store::Row { Arc::new(NodeRow::of(o)) }) as RowFn,
        ),
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
