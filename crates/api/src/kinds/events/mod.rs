//! The events.k8s.io group: another form of the core group's events, which store them.

mod event;

use super::cells;
use super::row::{computed, name, text};
use crate::kind::{Column, KindDef, View};
use crate::meta::time;
use crate::tree;
use serde_json::Value;

/// How long an event is kept after its last write.
pub(super) const TTL_SECONDS: u64 = 3600;

pub(super) fn rows() -> Vec<KindDef> {
    vec![event::row()]
}

/// The columns of both groups: cells read the stored form.
pub(super) fn columns() -> [Column; 10] {
    [
        computed("Last Seen", "Time since it was last seen.", last_seen),
        text("Type", "type"),
        text("Reason", "reason"),
        computed("Object", "What it happened to.", |v| object(v.obj)),
        text("Subobject", "involvedObject.fieldPath").wide(),
        computed("Source", "Who reported it.", |v| source(v.obj)).wide(),
        computed("Message", "What happened.", |v| tree::text(v.obj, "message").trim().into()),
        computed("First Seen", "Time since it was first seen.", |v| first_seen(v).into()).wide(),
        computed("Count", "How often it was seen.", |v| count(v.obj)).wide(),
        name().wide(),
    ]
}

fn first_seen(view: &View<'_>) -> String {
    let first = ["firstTimestamp", "eventTime"].iter().find_map(|p| time::parse_value(tree::at(view.obj, p)));
    time::age(view.now, first.unwrap_or_default())
}

fn last_seen(view: &View<'_>) -> Value {
    let last =
        ["series.lastObservedTime", "lastTimestamp"].iter().find_map(|p| time::parse_value(tree::at(view.obj, p)));
    last.map_or_else(|| first_seen(view), |at| time::age(view.now, at)).into()
}

fn object(obj: &Value) -> Value {
    let kind = tree::text(obj, "involvedObject.kind").to_ascii_lowercase();
    match tree::text(obj, "involvedObject.name") {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

fn source(obj: &Value) -> Value {
    let either = |path: &str, other: &str| match tree::text(obj, path) {
        "" => tree::text(obj, other).to_owned(),
        found => found.to_owned(),
    };
    let parts = [either("source.component", "reportingComponent"), either("source.host", "reportingInstance")];
    cells::joined(parts.iter().map(String::as_str).filter(|p| !p.is_empty()), ", ", "")
}

fn count(obj: &Value) -> Value {
    let counts = ["series.count", "count"].iter().find_map(|p| tree::int(obj, p));
    counts.filter(|n| *n > 0).unwrap_or(1).into()
}
