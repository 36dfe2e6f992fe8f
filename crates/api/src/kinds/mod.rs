//! The table of built-in kinds: one row each, declared in the kind's own file.
//!
//! Withheld kinds ([`crate::kind::Support::Withheld`]) have rows too; whoever routes or lists kinds
//! for clients leaves them out.

mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
mod cells;
mod certificates;
mod coordination;
pub(crate) mod core;
mod discovery;
mod events;
mod flowcontrol;
pub mod metrics;
mod networking;
mod node;
mod pod_defaults;
mod policy;
mod rbac;
mod resource;
mod row;
mod scheduling;
mod storage;
mod workload;

pub use scheduling::SYSTEM_PRIORITIES;

use crate::kind::KindDef;
use std::collections::HashMap;
use std::sync::LazyLock;

static ROWS: LazyLock<Vec<KindDef>> = LazyLock::new(|| {
    [
        core::rows(),
        admissionregistration::rows(),
        apiextensions::rows(),
        apiregistration::rows(),
        apps::rows(),
        authentication::rows(),
        authorization::rows(),
        autoscaling::rows(),
        batch::rows(),
        certificates::rows(),
        coordination::rows(),
        discovery::rows(),
        events::rows(),
        flowcontrol::rows(),
        networking::rows(),
        node::rows(),
        policy::rows(),
        rbac::rows(),
        resource::rows(),
        scheduling::rows(),
        storage::rows(),
    ]
    .concat()
});

type Index = HashMap<(&'static str, &'static str), &'static KindDef>;

static BY_PLURAL: LazyLock<Index> =
    LazyLock::new(|| ROWS.iter().map(|d| ((d.group.as_str(), d.plural.as_str()), d)).collect());

static BY_KIND: LazyLock<Index> =
    LazyLock::new(|| ROWS.iter().map(|d| ((d.group.as_str(), d.kind.as_str()), d)).collect());

/// Every built-in kind, group by group.
pub fn table() -> &'static [KindDef] {
    &ROWS
}

/// The row of a resource: `find("apps", "deployments")`.
pub fn find(group: &str, plural: &str) -> Option<&'static KindDef> {
    BY_PLURAL.get(&(group, plural)).copied()
}

/// The row of a kind: `by_kind("apps", "Deployment")`.
pub fn by_kind(group: &str, kind: &str) -> Option<&'static KindDef> {
    BY_KIND.get(&(group, kind)).copied()
}
