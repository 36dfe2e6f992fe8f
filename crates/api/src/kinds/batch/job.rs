//! Job: pods that run to completion.

use crate::kind::{Causes, Context, KindDef, Strategy, View};
use crate::kinds::cells;
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, computed, name};
use crate::kinds::workload;
use crate::meta::time;
use crate::tree;
use crate::validate;
use crate::validate::Field;
use crate::validate::Holder;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("batch", "v1", "Job", "jobs")
        .pods_from("/spec/template")
        .category("all")
        .status()
        .select_from("status.successful", "status.succeeded")
        .columns([
            name(),
            computed("Status", "Whether it runs, is complete or failed.", |v| status(v).into()),
            computed("Completions", "Successful pods of those wanted.", |v| completions(v.obj)),
            computed("Duration", "How long it ran.", duration),
            age(),
            containers,
            images,
            workload::selector(),
        ])
        .inert()
        .strategy(&Job)
        .build()
}

fn status(view: &View<'_>) -> &'static str {
    let is = |kind: &str| cells::condition_is_true(view.obj, kind);
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if view.head.deleting.is_some() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () => "Running",
    }
}

fn completions(obj: &Value) -> Value {
    let succeeded = tree::int(obj, "status.succeeded").unwrap_or_default();
    match (tree::int(obj, "spec.completions"), tree::int(obj, "spec.parallelism").unwrap_or_default()) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}").into(),
        (None, parallel @ 2..) => format!("{succeeded}/1 of {parallel}").into(),
        (None, _) => format!("{succeeded}/1").into(),
    }
}

fn duration(view: &View<'_>) -> Value {
    let at = |path: &str| time::parse_value(tree::at(view.obj, path));
    match (at("status.startTime"), at("status.completionTime")) {
        (None, _) => "".into(),
        (Some(start), end) => time::human_duration(end.unwrap_or(view.now.as_second()) - start).into(),
    }
}

struct Job;

impl Strategy for Job {
    fn default(&self, obj: &mut Value) {
        pod_defaults::labels_from_template(obj);
        if let Some(spec) = obj.get_mut("spec") {
            super::job_spec_defaults(spec);
        }
    }
    fn prepare(&self, _ctx: &Context<'_>, obj: &mut Value, old: Option<&Value>) {
        if old.is_none() && !tree::flag(obj, "spec.manualSelector") {
            own_selector(obj);
        }
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        for key in ["parallelism", "completions", "backoffLimit", "ttlSecondsAfterFinished", "activeDeadlineSeconds"] {
            spec.field(key).not_negative(out);
        }
        validate::template(&spec.field("template"), Holder::ToCompletion, out);
        let Some(old) = old else { return };
        let old = Field::root(old);
        let old = old.field("spec");
        for key in
            ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
        {
            spec.field(key).immutable(&old.field(key), out);
        }
    }
    fn default_propagation(&self) -> Option<&'static str> {
        Some("Orphan")
    }
}

/// A job without a selector of its own selects by its uid, which its template's labels carry.
fn own_selector(obj: &mut Value) {
    let (uid, name) = (tree::text(obj, "metadata.uid").to_owned(), tree::text(obj, "metadata.name").to_owned());
    let Some(spec) = obj.get_mut("spec") else { return };
    if let Some(labels) = tree::object(spec, "selector").and_then(|s| tree::object(s, "matchLabels")) {
        tree::set_default(labels, "batch.kubernetes.io/controller-uid", uid.as_str());
    }
    let metadata = tree::object(spec, "template").and_then(|t| tree::object(t, "metadata"));
    if let Some(labels) = metadata.and_then(|m| tree::object(m, "labels")) {
        for prefix in ["", "batch.kubernetes.io/"] {
            tree::set_default(labels, &format!("{prefix}controller-uid"), uid.as_str());
            tree::set_default(labels, &format!("{prefix}job-name"), name.as_str());
        }
    }
}
