//! The parts of a pod's JSON that the scheduler reads.

use k8s_openapi::api::core::v1::{NodeAffinity, Toleration};
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::BTreeMap;

#[derive(Deserialize)]
pub(super) struct Parts {
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: Status,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) node_name: SmolStr,
    pub(super) scheduler_name: SmolStr,
    pub(super) priority: i32,
    pub(super) preemption_policy: SmolStr,
    pub(super) node_selector: BTreeMap<SmolStr, SmolStr>,
    pub(super) affinity: Affinity,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) scheduling_gates: Vec<Value>,
    pub(super) containers: Vec<Container>,
    pub(super) init_containers: Vec<Container>,
    pub(super) overhead: BTreeMap<SmolStr, Value>,
    pub(super) resources: Resources,
    pub(super) topology_spread_constraints: Vec<SpreadPart>,
    pub(super) volumes: Vec<VolumePart>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Affinity {
    pub(super) node_affinity: Option<NodeAffinity>,
    pub(super) pod_affinity: PodAffinity,
    pub(super) pod_anti_affinity: PodAffinity,
}
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct PodAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub(super) required: Vec<TermPart>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub(super) preferred: Vec<WeightedPart>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TermPart {
    pub(super) label_selector: Option<Value>,
    pub(super) namespaces: Vec<SmolStr>,
    pub(super) namespace_selector: Option<Value>,
    pub(super) topology_key: SmolStr,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WeightedPart {
    pub(super) weight: i64,
    pub(super) pod_affinity_term: TermPart,
}
#[derive(Debug, Deserialize, Default, Clone, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SpreadPart {
    pub(crate) max_skew: i64,
    pub(crate) topology_key: SmolStr,
    pub(crate) when_unsatisfiable: SmolStr,
    pub(crate) label_selector: Option<Value>,
    pub(crate) min_domains: Option<i64>,
    pub(crate) node_affinity_policy: Option<SmolStr>,
    pub(crate) node_taints_policy: Option<SmolStr>,
    pub(crate) match_label_keys: Vec<SmolStr>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    pub(super) name: SmolStr,
    pub(super) image: SmolStr,
    pub(super) resources: Resources,
    pub(super) ports: Vec<Port>,
    pub(super) restart_policy: SmolStr,
}
impl Container {
    pub(super) fn is_sidecar(&self) -> bool {
        self.restart_policy == "Always"
    }
}
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Resources {
    pub(super) requests: BTreeMap<SmolStr, Value>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    pub(super) host_port: i32,
    #[serde(rename = "hostIP")]
    pub(super) host_ip: SmolStr,
    pub(super) protocol: SmolStr,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct VolumePart {
    pub(super) name: SmolStr,
    pub(super) persistent_volume_claim: Option<ClaimPart>,
    pub(super) ephemeral: Option<Value>,
    pub(super) csi: Option<CsiPart>,
    pub(super) gce_persistent_disk: Option<Value>,
    pub(super) aws_elastic_block_store: Option<Value>,
    pub(super) iscsi: Option<Value>,
    pub(super) rbd: Option<Value>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ClaimPart {
    pub(super) claim_name: SmolStr,
}
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct CsiPart {
    pub(super) driver: SmolStr,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) phase: SmolStr,
    pub(super) start_time: Option<SmolStr>,
    pub(super) nominated_node_name: SmolStr,
    pub(super) conditions: Vec<Condition>,
    pub(super) container_statuses: Vec<ContainerStatus>,
    pub(super) init_container_statuses: Vec<ContainerStatus>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerStatus {
    pub(super) name: SmolStr,
    pub(super) resources: Resources,
    pub(super) allocated_resources: BTreeMap<SmolStr, Value>,
}
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: SmolStr,
    pub(super) status: SmolStr,
    pub(super) reason: SmolStr,
    pub(super) message: String,
}
