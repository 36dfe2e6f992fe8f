//! Event: something that happened to an object. Served by two groups, stored once, in this form.

use crate::kind::KindDef;
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    let row =
        Row::new("", "v1", "Event", "events").short(&["ev"]).create_on_update().ttl(super::super::events::TTL_SECONDS);
    FIELDS
        .iter()
        .fold(row, |row, field| row.select(&format!("involvedObject.{field}")))
        .select("reason")
        .select("reportingComponent")
        .select("type")
        .select_from("source", "source.component")
        .columns(super::super::events::columns())
        .build()
}

/// The fields of an object reference that selectors may name.
pub(in crate::kinds) const FIELDS: [&str; 7] =
    ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];
