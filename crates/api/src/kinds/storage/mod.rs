//! Kinds of the storage group.

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod rules;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;

use super::row::name;
use crate::kind::{Cell, Column, KindDef};
use crate::tree;

pub(super) fn rows() -> Vec<KindDef> {
    vec![
        csi_driver::row(),
        csi_node::row(),
        csi_storage_capacity::row(),
        storage_class::row(),
        volume_attachment::row(),
        volume_attributes_class::row(),
    ]
}

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// The name column of a class, which says whether it is the default.
fn class_name() -> Column {
    Column {
        cell: Cell::With(|v| {
            let annotations = tree::at(v.obj, "metadata.annotations");
            let default = annotations.and_then(|a| a.get(DEFAULT_CLASS)).is_some_and(|d| d == "true");
            if default { format!("{} (default)", v.head.name).into() } else { v.head.name.as_str().into() }
        }),
        ..name()
    }
}
