//! CronJob: a Job at certain times.

use super::job_spec;
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::meta;
use crate::schedule::{self, Schedule};
use crate::tree;
use crate::validate::Field;
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
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        if ctx.subresource == "status" {
            return;
        }
        let root = Field::root(obj);
        let metadata = root.field("metadata");
        let spec = root.field("spec");
        schedule(&spec, old, out);
        spec.field("startingDeadlineSeconds").not_negative(out);
        let zone = spec.field("timeZone");
        if old.is_none_or(|old| tree::at(old, "spec.timeZone").unwrap_or(&tree::NULL) != zone.value) {
            time_zone(&zone, out);
        }
        spec.field("concurrencyPolicy").one_of(&["Allow", "Forbid", "Replace"], out);
        job_template(&spec.field("jobTemplate"), out);
        spec.field("successfulJobsHistoryLimit").not_negative(out);
        spec.field("failedJobsHistoryLimit").not_negative(out);
        if old.is_none() && metadata.field("name").text().len() > NAME_MAX {
            metadata.field("name").invalid("must be no more than 52 characters", out);
        }
    }
    fn warnings(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::from_iter(super::name_warning(obj, old));
        if tree::text(obj, "spec.schedule").contains("TZ") {
            warnings.push("cannot use TZ or CRON_TZ in spec.schedule, use timeZone field instead".to_owned());
        }
        warnings
    }
}

/// A zone inside the schedule is refused, unless it was there before this was said.
fn schedule(spec: &Field<'_, '_>, old: Option<&Value>, out: &mut Causes) {
    let text = spec.field("schedule");
    if !text.demand(out) {
        return;
    }
    let (fields, has_zone) = match text.text().split_once(' ') {
        Some((first, rest)) if first.starts_with("TZ=") || first.starts_with("CRON_TZ=") => (rest.trim(), true),
        _ => (text.text(), text.text().contains("TZ")),
    };
    if let Err(why) = Schedule::parse(fields) {
        text.invalid(&why, out);
    }
    let had_zone = old.is_some_and(|old| tree::text(old, "spec.schedule").contains("TZ"));
    if has_zone && had_zone && spec.field("timeZone").present() {
        text.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule", out);
    } else if has_zone && !had_zone {
        text.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead", out);
    }
}

fn time_zone(zone: &Field<'_, '_>, out: &mut Causes) {
    if !zone.present() {
        return;
    }
    if zone.text().is_empty() {
        return zone.invalid("timeZone must be nil or non-empty string", out);
    }
    if zone.text().eq_ignore_ascii_case("Local") {
        zone.invalid("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones", out);
    }
    if let Err(why) = schedule::zone(zone.text()) {
        zone.invalid(&why, out);
    }
}

fn job_template(template: &Field<'_, '_>, out: &mut Causes) {
    let (metadata, spec) = (template.field("metadata"), template.field("spec"));
    meta::labels(&metadata.field("labels"), out);
    meta::annotations(&metadata.field("annotations"), out);
    job_spec::validate(&spec, out);
    let (selector, manual) = (spec.field("selector"), spec.field("manualSelector"));
    if selector.present() {
        selector.invalid("`selector` will be auto-generated", out);
    }
    if manual.flag() {
        manual.unsupported(&["nil", "false"], out);
    }
}

/// Its jobs' names add 11 characters, and theirs must fit a label.
const NAME_MAX: usize = 52;
