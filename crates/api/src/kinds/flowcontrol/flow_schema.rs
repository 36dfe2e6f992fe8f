//! FlowSchema: which priority level a request belongs to.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, field, name, text, text_or};
use crate::tree;

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
        .build()
}
