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

/// Makes a plugin, and says whether it is on by default.
type Row = (fn() -> Box<dyn Plugin>, bool);

/// Kubernetes' order.
pub(crate) static TABLE: &[Row] = &[
    (|| Box::new(namespace_lifecycle::NamespaceLifecycle), true),
    (|| Box::new(service_account::ServiceAccount), true),
    (|| Box::new(node_restriction::NodeRestriction), true),
    (|| Box::new(node_taints::TaintNodesByCondition), true),
    (|| Box::new(priority::Priority), true),
    (|| Box::new(default_tolerations::DefaultTolerationSeconds), true),
    (|| Box::new(certificate_approval::CertificateApproval), true),
    (|| Box::new(certificate_signing::CertificateSigning), true),
    (|| Box::new(certificate_subject::CertificateSubjectRestriction), true),
    (|| Box::new(external_ips::DenyServiceExternalIPs), true),
];
