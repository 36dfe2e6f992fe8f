//! ServiceAccount: an identity for pods.

use crate::kind::{KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "ServiceAccount", "serviceaccounts")
        .short(&["sa"])
        .sub_of("token", "authentication.k8s.io", "v1", "TokenRequest", &["create"])
        .columns([name(), computed("Secrets", "Number of secrets.", |v| cells::length(v, "secrets")), age()])
        .strategy(&ServiceAccount)
        .build()
}

struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
