//! PodTemplate: a template of pods, by itself.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, computed, name};
use crate::tree;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "PodTemplate", "podtemplates")
        .columns([
            name(),
            computed("Containers", "Names of the containers.", |v| {
                cells::column_of(tree::list(v.obj, "template.spec.containers"), "name", "")
            }),
            computed("Images", "Images of the containers.", |v| {
                cells::column_of(tree::list(v.obj, "template.spec.containers"), "image", "")
            }),
            computed("Pod Labels", "Labels of the pods.", |v| {
                cells::pairs(tree::at(v.obj, "template.metadata.labels"))
            }),
        ])
        .build()
}
