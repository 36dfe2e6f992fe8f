//! Lease: who holds a role, and since when.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::{Row, age, name, text};
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("coordination.k8s.io", "v1", "Lease", "leases")
        .create_on_update()
        .needs_revision()
        .columns([name(), text("Holder", "spec.holderIdentity"), age()])
        .strategy(&Lease)
        .build()
}

struct Lease;

impl Strategy for Lease {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        let seconds = spec.field("leaseDurationSeconds");
        if seconds.int().is_some_and(|s| s <= 0) {
            seconds.invalid("must be greater than 0", out);
        }
        spec.field("leaseTransitions").not_negative(out);
    }
}
