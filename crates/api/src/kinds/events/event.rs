//! Event of events.k8s.io: the newer spelling of the core group's event.

use crate::kind::KindDef;
use crate::kinds::core::event::{Event, FIELDS};
use crate::kinds::row::Row;
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    let row = Row::new("events.k8s.io", "v1", "Event", "events")
        .short(&["ev"])
        .create_on_update()
        .ttl(super::TTL_SECONDS)
        .stored_as("", from_stored, to_stored);
    // In the order of the core row, whose cached heads this row's selectors read.
    FIELDS
        .iter()
        .fold(row, |row, field| row.select_from(&format!("regarding.{field}"), &format!("involvedObject.{field}")))
        .select("reason")
        .select_from("reportingController", "reportingComponent")
        .select("type")
        .columns(super::columns())
        .strategy(&Event)
        .build()
}

/// Stored name and name here of the fields that are spelt differently.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn from_stored(obj: &mut Value) {
    RENAMED.iter().for_each(|(stored, here)| tree::rename(obj, stored, here));
}

fn to_stored(obj: &mut Value) {
    RENAMED.iter().for_each(|(stored, here)| tree::rename(obj, here, stored));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conversions_are_each_other_s_inverse() {
        let stored = json!({
            "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"}, "message": "m", "reason": "r",
            "reportingComponent": "c", "reportingInstance": "i", "source": {"component": "s"}, "count": 2,
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:01Z", "type": "Normal",
            "series": {"count": 3}, "eventTime": null,
        });
        let mut here = stored.clone();
        from_stored(&mut here);
        assert_eq!(here["regarding"]["kind"], "Pod");
        assert_eq!(here["deprecatedCount"], 2);
        assert!(RENAMED.iter().all(|(stored, _)| here.get(stored).is_none()));
        to_stored(&mut here);
        assert_eq!(here, stored);
    }
}
