//! The plugins, in the order in which they run.

mod always_pull_images;
mod certificate_approval;
mod certificate_signing;
mod certificate_subject;
mod claim_resize;
mod default_classes;
mod default_tolerations;
mod external_ips;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod node_taints;
mod pod_security;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_in_use;
mod topology_labels;

use crate::plugin::Plugin;
use std::sync::Arc;

/// Makes a plugin, and says whether it is on by default.
type Row = (fn() -> Arc<dyn Plugin>, bool);

/// Kubernetes' order.
pub(crate) static TABLE: &[Row] = &[
    (|| Arc::new(namespace_lifecycle::NamespaceLifecycle), true),
    (|| Arc::new(always_pull_images::AlwaysPullImages), false),
    (|| Arc::new(limit_ranger::LimitRanger), true),
    (|| Arc::new(service_account::ServiceAccount), true),
    (|| Arc::new(node_restriction::NodeRestriction), true),
    (|| Arc::new(node_taints::TaintNodesByCondition), true),
    (|| Arc::new(pod_security::PodSecurity), true),
    (|| Arc::new(priority::Priority), true),
    (|| Arc::new(default_tolerations::DefaultTolerationSeconds), true),
    (|| Arc::new(default_classes::DefaultStorageClass), true),
    (|| Arc::new(storage_in_use::StorageObjectInUseProtection), true),
    (|| Arc::new(claim_resize::PersistentVolumeClaimResize), true),
    (|| Arc::new(runtime_class::RuntimeClass), true),
    (|| Arc::new(certificate_approval::CertificateApproval), true),
    (|| Arc::new(certificate_signing::CertificateSigning), true),
    (|| Arc::new(certificate_subject::CertificateSubjectRestriction), true),
    (|| Arc::new(default_classes::DefaultIngressClass), true),
    (|| Arc::new(external_ips::DenyServiceExternalIPs), true),
    (|| Arc::new(topology_labels::PodTopologyLabels), true),
    // last: what another plugin refuses is not counted
    (|| Arc::new(resource_quota::ResourceQuota), true),
];
