//! PriorityLevelConfiguration: how many requests of a level run at once.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, name, text, text_or};

pub(super) fn row() -> KindDef {
    const QUEUING: &str = "spec.limited.limitResponse.queuing";
    Row::new("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations")
        .cluster()
        .status()
        .columns([
            name(),
            text("Type", "spec.type"),
            text_or("NominalConcurrencyShares", "spec.limited.nominalConcurrencyShares", cells::NONE),
            text_or("Queues", &format!("{QUEUING}.queues"), cells::NONE),
            text_or("HandSize", &format!("{QUEUING}.handSize"), cells::NONE),
            text_or("QueueLengthLimit", &format!("{QUEUING}.queueLengthLimit"), cells::NONE),
            age(),
        ])
        .inert()
        .build()
}
