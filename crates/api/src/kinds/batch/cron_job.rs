//! CronJob: a Job at certain times.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::tree;
use crate::validate;
use crate::validate::Field;
use crate::validate::Holder;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("batch", "v1", "CronJob", "cronjobs")
        .pods_from("/spec/jobTemplate/spec/template")
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
        .strategy(&CronJob)
        .build()
}

struct CronJob;

impl Strategy for CronJob {
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::set_default(spec, "concurrencyPolicy", "Allow");
        tree::set_if_absent(spec, "suspend", false);
        tree::set_if_absent(spec, "successfulJobsHistoryLimit", 3);
        tree::set_if_absent(spec, "failedJobsHistoryLimit", 1);
        if let Some(template) = tree::at_mut(spec, "jobTemplate.spec.template") {
            pod_defaults::template(template);
        }
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        spec.field("schedule").demand(out);
        spec.field("concurrencyPolicy").one_of(&["Allow", "Forbid", "Replace"], out);
        let job = spec.field("jobTemplate");
        let job = job.field("spec");
        validate::template(&job.field("template"), Holder::ToCompletion, out);
        let metadata = root.field("metadata");
        if metadata.field("name").text().len() > NAME_MAX {
            metadata.field("name").invalid("must be no more than 52 characters", out);
        }
    }
}

/// Its jobs' names add 11 characters, and theirs must fit a label.
const NAME_MAX: usize = 52;
