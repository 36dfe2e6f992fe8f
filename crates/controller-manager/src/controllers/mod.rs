//! The table of controllers. A new controller is one file (or folder) and one line here.

mod autoscaler;
mod bootstrap_tokens;
mod cron_job;
mod csr;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod flow_schemas;
mod garbage;
pub(crate) mod ingress;
mod job;
mod load_balancer;
mod namespace_lifecycle;
mod namespaces;
mod node_ipam;
mod node_lifecycle;
mod node_ttl;
mod pod_gc;
mod replicaset;
mod resource_quota;
mod role_aggregation;
mod statefulset;
pub(crate) mod storage;

use crate::metrics::Metrics;
use crate::{CertificateSigner, kinds};
pub use autoscaler::NAME as AUTOSCALER;
use ipnet::IpNet;
use kybern_reconcile::def::ControllerDef;
use std::sync::Arc;

/// What controllers need to know besides the objects.
pub(crate) struct Settings {
    pub(crate) cluster_cidr: IpNet,
    pub(crate) ca_pem: String,
    pub(crate) signer: Arc<dyn CertificateSigner>,
    pub(crate) metrics: Arc<dyn Metrics>,
}

/// Every controller.
pub(crate) fn table(settings: Settings) -> Vec<ControllerDef> {
    let kinds = kinds::collections();
    vec![
        namespaces::system(),
        namespaces::service_accounts(),
        namespaces::root_ca(settings.ca_pem),
        namespace_lifecycle::def(&kinds),
        deployment::def(),
        replicaset::def(),
        replicaset::replication_controllers(),
        statefulset::def(),
        daemonset::def(),
        job::def(),
        job::ttl::def(),
        cron_job::def(),
        endpoints::slices(),
        endpoints::endpoints(),
        endpoints::mirroring(),
        load_balancer::def(),
        disruption::def(),
        autoscaler::def(settings.metrics),
        flow_schemas::def(),
        resource_quota::def(&kinds),
        garbage::def(&kinds),
        node_lifecycle::def(),
        node_ttl::def(),
        node_ipam::def(settings.cluster_cidr),
        pod_gc::def(),
        ingress::def(),
        storage::binder(),
        storage::ephemeral(),
        storage::protect_claims(),
        storage::protect_volumes(),
        storage::local_path(),
        csr::approver(),
        csr::signer(settings.signer),
        csr::cleaner(),
        bootstrap_tokens::def(),
        role_aggregation::def(),
    ]
}
