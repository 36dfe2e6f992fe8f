//! FlowSchema: which priority level a request belongs to.

use crate::kind::{KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, field, name, text, text_or};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas")
        .cluster()
        .status()
        .columns([
            name(),
            text("PriorityLevel", "spec.priorityLevelConfiguration.name"),
            field("MatchingPrecedence", "string", "spec.matchingPrecedence", 0),
            text_or("DistinguisherMethod", "spec.distinguisherMethod.type", cells::NONE),
            age(),
            computed("MissingPL", "Whether the priority level is missing.", |v| {
                cells::condition(v.obj, "Dangling").map_or("?", |c| tree::text(c, "status")).into()
            }),
        ])
        .inert()
        .strategy(&FlowSchema)
        .build()
}

struct FlowSchema;

impl Strategy for FlowSchema {
    fn default(&self, obj: &mut Value) {
        if let Some(spec) = obj.get_mut("spec") {
            tree::set_default_nonzero(spec, "matchingPrecedence", 1000);
        }
    }
}
