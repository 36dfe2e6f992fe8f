//! StatefulSet: pods with stable names and storage.

use crate::kind::{KindDef, NameRule};
use crate::kinds::row::{Row, age, name};
use crate::kinds::workload;

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("apps", "v1", "StatefulSet", "statefulsets")
        .short(&["sts"])
        .category("all")
        .scale()
        .status()
        .names(NameRule::Label)
        .columns([name(), workload::ready(), age(), containers, images])
        .inert()
        .build()
}
