//! What the scheduler needs of a pod, read once per event.

pub(crate) mod requests;
pub(crate) mod spec;
pub(crate) mod terms;

use crate::plugins::node_affinity::Wanted;
use k8s_openapi::api::core::v1::{PreferredSchedulingTerm, Toleration};
use kybern_api::object::{Object, Owner};
use kybern_client::store::Name;
use requests::{Amounts, HostPort};
use serde_json::Value;
use smol_str::SmolStr;
use spec::{Parts, Spec, VolumePart};
use std::sync::Arc;
use terms::{Company, LabelList, Spread};

/// A claim that a pod uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimRef {
    pub(crate) name: Name,
    /// Made for this pod alone.
    pub(crate) ephemeral: bool,
}

/// A disk that a pod names without a claim, as far as two pods can be in each other's way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Disk {
    /// The kind's name in the API.
    pub(crate) kind: &'static str,
    pub(crate) source: Value,
}

/// A pod as the scheduler sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodInfo {
    pub(crate) name: Name,
    pub(crate) uid: SmolStr,
    pub(crate) labels: LabelList,
    pub(crate) controller: Option<Owner>,
    /// Requests, including one of `pods`.
    pub(crate) requests: Amounts,
    /// Millicores and bytes for comparing nodes; containers without requests count with an assumed one.
    pub(crate) weight: (i64, i64),
    pub(crate) ports: Vec<HostPort>,
    pub(crate) priority: i32,
    /// May it drive others away?
    pub(crate) preempts: bool,
    /// spec.nodeName or empty.
    pub(crate) node: SmolStr,
    pub(crate) scheduler: SmolStr,
    /// nodeSelector and required node affinity; None: any node.
    pub(crate) wanted: Option<Arc<Wanted>>,
    pub(crate) liked: Vec<PreferredSchedulingTerm>,
    pub(crate) company: Company,
    pub(crate) spread: Vec<Spread>,
    pub(crate) tolerations: Vec<Toleration>,
    /// Images of its containers, with their tags.
    pub(crate) images: Vec<SmolStr>,
    pub(crate) claims: Vec<ClaimRef>,
    pub(crate) disks: Vec<Disk>,
    /// Drivers of its inline CSI volumes.
    pub(crate) inline_drivers: Vec<SmolStr>,
    pub(crate) gated: bool,
    /// Has it ended (or will it never run)?
    pub(crate) ended: bool,
    pub(crate) deleting: bool,
    /// Is it being deleted because the scheduler wants its place?
    pub(crate) preempted: bool,
    /// status.startTime, as text that sorts by time; empty: not started.
    pub(crate) started: SmolStr,
    /// status.nominatedNodeName or empty.
    pub(crate) nominated: SmolStr,
    /// What the PodScheduled condition says while it is False.
    pub(crate) complaint: Option<String>,
}

impl PodInfo {
    /// Reads a pod.
    pub(crate) fn read(object: &Object) -> Result<Self, serde_json::Error> {
        let Parts { spec, status } = object.view()?;
        let head = &object.head;
        let (claims, disks, inline_drivers) = volumes(&spec, head);
        let (requests, weight) = (requests::requests(&spec, &status), requests::weight(&spec, &status));
        let complaint = condition(&status.conditions, "PodScheduled", "False").map(|c| c.message.clone());
        let preempted = condition(&status.conditions, "DisruptionTarget", "True")
            .is_some_and(|c| c.reason == "PreemptionByScheduler");
        let ports = requests::ports(&spec);
        let images = spec.init_containers.iter().chain(&spec.containers).map(|c| tagged(&c.image)).collect();
        let namespace = &head.namespace;
        let affinity = spec.affinity;
        let company = Company {
            required: affinity.pod_affinity.required.into_iter().map(|t| terms::term(t, namespace)).collect(),
            avoided: affinity.pod_anti_affinity.required.into_iter().map(|t| terms::term(t, namespace)).collect(),
            preferred: terms::weighted(affinity.pod_affinity.preferred, namespace),
            disliked: terms::weighted(affinity.pod_anti_affinity.preferred, namespace),
        };
        let node_affinity = affinity.node_affinity.unwrap_or_default();
        Ok(Self {
            name: Name::of(object),
            uid: head.uid.clone(),
            labels: head.labels.clone(),
            controller: head.controller().cloned(),
            requests,
            weight,
            ports,
            priority: spec.priority,
            preempts: spec.preemption_policy != "Never",
            node: spec.node_name,
            scheduler: spec.scheduler_name,
            wanted: Wanted::new(spec.node_selector, node_affinity.required_during_scheduling_ignored_during_execution)
                .map(Arc::new),
            liked: node_affinity.preferred_during_scheduling_ignored_during_execution.unwrap_or_default(),
            company,
            spread: spec
                .topology_spread_constraints
                .iter()
                .map(|c| terms::spread(c, namespace, &head.labels))
                .collect(),
            tolerations: spec.tolerations,
            images,
            claims,
            disks,
            inline_drivers,
            gated: !spec.scheduling_gates.is_empty(),
            ended: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
            deleting: head.deleting.is_some(),
            preempted,
            started: status.start_time.unwrap_or_default(),
            nominated: status.nominated_node_name,
            complaint,
        })
    }
    /// Does it wait for a decision?
    pub(crate) fn is_waiting(&self) -> bool {
        self.node.is_empty() && !self.ended && !self.deleting
    }
    /// A pod on its node takes room; what it wanted of a node is no longer asked.
    pub(crate) fn settled(self) -> Self {
        let (tolerations, images, liked, spread) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { tolerations, images, liked, spread, wanted: None, complaint: None, ..self }
    }
    /// How much of a resource it asks for.
    pub(crate) fn request(&self, resource: &str) -> i64 {
        self.requests.get(resource).copied().unwrap_or(0)
    }
}

fn condition<'a>(conditions: &'a [spec::Condition], kind: &str, status: &str) -> Option<&'a spec::Condition> {
    conditions.iter().find(|c| c.kind == kind && c.status == status)
}

/// Claims (those of ephemeral volumes bear the pod's and the volume's name), disks, drivers.
fn volumes(spec: &Spec, head: &kybern_api::object::Head) -> (Vec<ClaimRef>, Vec<Disk>, Vec<SmolStr>) {
    let claim = |v: &VolumePart| {
        let (name, ephemeral) = match (&v.persistent_volume_claim, &v.ephemeral) {
            (Some(claim), _) => (claim.claim_name.clone(), false),
            (None, Some(_)) => (SmolStr::from(format!("{}-{}", head.name, v.name)), true),
            (None, None) => return None,
        };
        Some(ClaimRef { name: Name::new(head.namespace.clone(), name), ephemeral })
    };
    let disks = |v: &VolumePart| {
        [
            ("gcePersistentDisk", v.gce_persistent_disk.clone()),
            ("awsElasticBlockStore", v.aws_elastic_block_store.clone()),
            ("iscsi", v.iscsi.clone()),
            ("rbd", v.rbd.clone()),
        ]
        .into_iter()
        .filter_map(|(kind, source)| Some(Disk { kind, source: source? }))
        .collect::<Vec<_>>()
    };
    let drivers = spec.volumes.iter().filter_map(|v| v.csi.as_ref()).map(|c| c.driver.clone());
    (spec.volumes.iter().filter_map(claim).collect(), spec.volumes.iter().flat_map(disks).collect(), drivers.collect())
}

/// An image without a tag means `latest`.
fn tagged(image: &SmolStr) -> SmolStr {
    if image.rfind(':') > image.rfind('/') { image.clone() } else { format!("{image}:latest").into() }
}
