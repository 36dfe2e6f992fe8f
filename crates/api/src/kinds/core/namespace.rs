//! Namespace: a scope for names and policy.

use crate::kind::{KindDef, NameRule};
use crate::kinds::row::{Row, age, name, text};

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Namespace", "namespaces")
        .cluster()
        .short(&["ns"])
        .without("deletecollection")
        .sub("finalize", "Namespace", &["update"])
        .status()
        .names(NameRule::Label)
        .select("status.phase")
        .columns([name(), text("Status", "status.phase"), age()])
        .build()
}
