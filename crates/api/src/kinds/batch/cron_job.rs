//! CronJob: a Job at certain times.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("batch", "v1", "CronJob", "cronjobs")
        .short(&["cj"])
        .category("all")
        .status()
        .columns([
            name(),
            text("Schedule", "spec.schedule"),
            text_or("Timezone", "spec.timeZone", cells::NONE),
            computed("Suspend", "Whether it is paused.", |v| {
                match tree::at(v.obj, "spec.suspend").and_then(Value::as_bool) {
                    None => cells::UNSET.into(),
                    Some(true) => "True".into(),
                    Some(false) => "False".into(),
                }
            })
            .typed("boolean"),
            computed("Active", "Number of running jobs.", |v| cells::length(v, "status.active")).typed("integer"),
            computed("Last Schedule", "Time since it last ran.", |v| {
                cells::age_at(v, "status.lastScheduleTime", cells::NONE)
            }),
            age(),
            computed("Containers", "Names of the job's containers.", |v| {
                cells::column_of(tree::list(v.obj, "spec.jobTemplate.spec.template.spec.containers"), "name", "")
            })
            .wide(),
            computed("Images", "Images of the job's containers.", |v| {
                cells::column_of(tree::list(v.obj, "spec.jobTemplate.spec.template.spec.containers"), "image", "")
            })
            .wide(),
            computed("Selector", "Which pods belong to its jobs.", |v| {
                cells::selector(tree::at(v.obj, "spec.jobTemplate.spec.selector"))
            })
            .wide(),
        ])
        .inert()
        .build()
}
