//! PriorityLevelConfiguration: how many requests of a level run at once.

use crate::kind::{KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, name, text, text_or};
use crate::tree;
use serde_json::Value;

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
        .strategy(&PriorityLevelConfiguration)
        .build()
}

struct PriorityLevelConfiguration;

impl Strategy for PriorityLevelConfiguration {
    fn default(&self, obj: &mut Value) {
        if let Some(limited) = tree::at_mut(obj, "spec.limited") {
            tree::set_if_absent(limited, "nominalConcurrencyShares", 30);
            tree::set_if_absent(limited, "lendablePercent", 0);
            if let Some(queuing) = tree::at_mut(limited, "limitResponse.queuing") {
                tree::set_default_nonzero(queuing, "queues", 64);
                tree::set_default_nonzero(queuing, "handSize", 8);
                tree::set_default_nonzero(queuing, "queueLengthLimit", 50);
            }
        }
        if let Some(exempt) = tree::at_mut(obj, "spec.exempt") {
            tree::set_if_absent(exempt, "nominalConcurrencyShares", 0);
            tree::set_if_absent(exempt, "lendablePercent", 0);
        }
    }
}
