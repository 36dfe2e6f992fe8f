//! PodTemplate: a template of pods, by itself.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, computed, name};
use crate::tree;
use crate::validate;
use crate::validate::Field;
use crate::validate::Holder;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "PodTemplate", "podtemplates")
        .pods_from("/template")
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
        .strategy(&PodTemplate)
        .build()
}

struct PodTemplate;

impl Strategy for PodTemplate {
    fn counts_generation(&self, _def: &KindDef) -> bool {
        true
    }
    fn default(&self, obj: &mut Value) {
        if let Some(template) = obj.get_mut("template") {
            pod_defaults::template(template);
        }
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        validate::template(&root.field("template"), Holder::Any, out);
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}
