//! Kinds of the certificates group.

mod certificate_signing_request;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![certificate_signing_request::row()]
}
