//! Event: something that happened to an object. Served by two groups, stored once, in this form.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::Row;
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

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
        .strategy(&Event)
        .build()
}

/// The fields of an object reference that selectors may name.
pub(in crate::kinds) const FIELDS: [&str; 7] =
    ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];

/// Events of both groups, in the stored form.
pub(in crate::kinds) struct Event;

impl Strategy for Event {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let (own, involved) = (tree::text(obj, "metadata.namespace"), root.field("involvedObject"));
        let namespace = involved.field("namespace");
        // Events about objects without a namespace live in the default one.
        let fits = if namespace.set() { namespace.text() == own } else { own == "default" };
        if !fits {
            namespace.invalid_value(&namespace.text().into(), "does not match event.namespace", out);
        }
        if root.field("eventTime").present() {
            validate_new_form(&root, out);
        }
    }
}

/// Events with an eventTime are of the newer form, which says more.
fn validate_new_form(event: &Field<'_, '_>, out: &mut Causes) {
    for key in ["reportingComponent", "reportingInstance", "action", "reason"] {
        event.field(key).demand(out);
    }
    event.field("type").one_of(&["Normal", "Warning"], out);
}
