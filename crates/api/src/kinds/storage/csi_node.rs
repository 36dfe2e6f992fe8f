//! CSINode: volume drivers of a node.

use super::rules;
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::meta::names;
use crate::tree;
use crate::validate::Field;
use crate::validate::field::{IMMUTABLE, NOT_NEGATIVE, Unique};
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("storage.k8s.io", "v1", "CSINode", "csinodes")
        .cluster()
        .needs_revision()
        .columns([
            name(),
            computed("Drivers", "Number of drivers.", |v| cells::length(v, "spec.drivers")).typed("integer"),
            age(),
        ])
        .inert()
        .strategy(&CsiNode)
        .build()
}

struct CsiNode;

impl Strategy for CsiNode {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let (spec, mut names) = (root.field("spec"), Unique::default());
        for entry in spec.field("drivers").items() {
            rules::driver(&entry.field("name"), out);
            driver(&entry, out);
            names.check(&entry.field("name"), out);
            let name = entry.field("name").text();
            let before = old.map_or(&[][..], |old| tree::list(old, "spec.drivers"));
            if before.iter().any(|b| tree::text(b, "name") == name && b != entry.value) {
                // Kubernetes calls the place so.
                root.field("CSINodeDriver").invalid_value(entry.value, IMMUTABLE, out);
            }
        }
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}

/// Longest identity that a driver gives a node.
const NODE_ID_MAX: usize = 256;

/// What a driver says of its node.
fn driver(entry: &Field<'_, '_>, out: &mut Causes) {
    let (id, allocatable) = (entry.field("nodeID"), entry.field("allocatable"));
    if id.demand(out) && id.text().len() > NODE_ID_MAX {
        id.invalid(&format!("must be {NODE_ID_MAX} characters or less"), out);
    }
    let count = allocatable.field("count");
    if count.int().is_some_and(|n| n < 0) {
        count.invalid(NOT_NEGATIVE, out);
    }
    let keys = entry.field("topologyKeys");
    let mut seen = Unique::default();
    for key in keys.items() {
        if !key.set() {
            keys.required("", out);
        }
        seen.check(&keys.instead(key.value), out);
        names::qualified_name(key.text()).iter().for_each(|problem| keys.invalid(problem, out));
    }
}
