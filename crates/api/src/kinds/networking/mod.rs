//! Kinds of the networking group.

mod ingress;
mod ingress_class;
mod ip_address;
mod network_policy;
mod service_cidr;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![ingress_class::row(), ingress::row(), ip_address::row(), network_policy::row(), service_cidr::row()]
}
