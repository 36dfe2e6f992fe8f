//! The plugins, in the order in which they run.

mod certificate_approval;
mod certificate_signing;
mod certificate_subject;
mod default_tolerations;
mod external_ips;
mod namespace_lifecycle;
mod node_restriction;
mod node_taints;
mod priority;
mod service_account;

use crate::plugin::Plugin;
use std::sync::Arc;

/// Makes a plugin, and says whether it is on by default.
type Row = (fn() -> Arc<dyn Plugin>, bool);

/// Kubernetes' order.
pub(crate) static TABLE: &[Row] = &[
    (|| Arc::new(namespace_lifecycle::NamespaceLifecycle), true),
    (|| Arc::new(service_account::ServiceAccount), true),
    (|| Arc::new(node_restriction::NodeRestriction), true),
    (|| Arc::new(node_taints::TaintNodesByCondition), true),
    (|| Arc::new(priority::Priority), true),
    (|| Arc::new(default_tolerations::DefaultTolerationSeconds), true),
    (|| Arc::new(certificate_approval::CertificateApproval), true),
    (|| Arc::new(certificate_signing::CertificateSigning), true),
    (|| Arc::new(certificate_subject::CertificateSubjectRestriction), true),
    (|| Arc::new(external_ips::DenyServiceExternalIPs), true),
];
