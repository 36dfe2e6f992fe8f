//! The plugins, in the order in which they run.

mod always_pull_images;
mod certificate_approval;
mod certificate_signing;
mod certificate_subject;
mod claim_resize;
mod default_classes;
mod default_tolerations;
pub(crate) mod event_rate_limit;
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

use crate::chain::Switches;
use crate::plugin::Plugin;
use std::sync::Arc;

/// Makes a plugin, and says whether it is on by default.
type Row = (fn(&Switches) -> Arc<dyn Plugin>, bool);

/// Kubernetes' order.
pub(crate) static TABLE: &[Row] = &[
    (|_| Arc::new(namespace_lifecycle::NamespaceLifecycle), true),
    (|_| Arc::new(always_pull_images::AlwaysPullImages), false),
    (|_| Arc::new(limit_ranger::LimitRanger), true),
    (|_| Arc::new(service_account::ServiceAccount), true),
    (|_| Arc::new(node_restriction::NodeRestriction), true),
    (|_| Arc::new(node_taints::TaintNodesByCondition), true),
    (|_| Arc::new(pod_security::PodSecurity), true),
    (|_| Arc::new(priority::Priority), true),
    (|_| Arc::new(default_tolerations::DefaultTolerationSeconds), true),
    (|s| Arc::new(event_rate_limit::EventRateLimit::new(&s.event_limits)), false),
    (|_| Arc::new(default_classes::DefaultStorageClass), true),
    (|_| Arc::new(storage_in_use::StorageObjectInUseProtection), true),
    (|_| Arc::new(claim_resize::PersistentVolumeClaimResize), true),
    (|_| Arc::new(runtime_class::RuntimeClass), true),
    (|_| Arc::new(certificate_approval::CertificateApproval), true),
    (|_| Arc::new(certificate_signing::CertificateSigning), true),
    (|_| Arc::new(certificate_subject::CertificateSubjectRestriction), true),
    (|_| Arc::new(default_classes::DefaultIngressClass), true),
    (|_| Arc::new(external_ips::DenyServiceExternalIPs), true),
    (|_| Arc::new(topology_labels::PodTopologyLabels), true),
    // last: what another plugin refuses is not counted
    (|_| Arc::new(resource_quota::ResourceQuota), true),
];
