//! CSIStorageCapacity: how much a driver can still provide.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, name, text, text_or};
use crate::meta::names;
use crate::validate::Field;
use crate::validate::quantities::not_negative;
use crate::validate::selectors::label_selector;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities")
        .needs_revision()
        .columns([name(), text("StorageClassName", "storageClassName"), text_or("Capacity", "capacity", cells::UNSET)])
        .inert()
        .strategy(&CsiStorageCapacity)
        .build()
}

struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let class = root.field("storageClassName");
        for problem in names::subdomain(class.text()) {
            class.invalid_value(&class.text().into(), &problem, out);
        }
        not_negative(&root.field("capacity"), out);
        not_negative(&root.field("maximumVolumeSize"), out);
        label_selector(&root.field("nodeTopology"), out);
        let Some(old) = old else { return };
        let old = Field::root(old);
        for key in ["nodeTopology", "storageClassName"] {
            root.field(key).immutable(&old.field(key), out);
        }
    }
}
