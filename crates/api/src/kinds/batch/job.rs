//! Job: pods that run to completion.

use super::{job_spec, job_status, job_update};
use crate::kind::{Causes, Context, KindDef, Strategy, View};
use crate::kinds::cells;
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, computed, name};
use crate::kinds::workload;
use crate::meta::selector::Selector;
use crate::meta::{names, time};
use crate::tree;
use crate::validate::Field;
use crate::validate::selectors::{label_selector, matches_template};
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
            job_spec::defaults(spec);
        }
    }
    fn prepare(&self, _ctx: &Context<'_>, obj: &mut Value, old: Option<&Value>) {
        if old.is_none() && !tree::flag(obj, "spec.manualSelector") {
            own_selector(obj);
            // Whose labels the job has, as any reader of it would default them. A name that is no label is
            // refused where it stands.
            if names::label_value(tree::text(obj, "metadata.name")).is_empty() {
                pod_defaults::labels_from_template(obj);
            }
        }
    }
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        if ctx.subresource == "status" {
            return job_status::validate(&root, out);
        }
        let spec = root.field("spec");
        if old.is_none() {
            generated_selector(&root, out);
        }
        job_spec::validate(&spec, out);
        selector(&spec, out);
        match old {
            Some(old) => job_update::validate(&spec, old, out),
            None => host_name(&root, out),
        }
    }
    fn warnings(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::from_iter(super::name_warning(obj, old));
        let over = |path: &str, limit: i64| tree::int(obj, path).is_some_and(|n| n > limit);
        let indexed = tree::text(obj, "spec.completionMode") == "Indexed";
        if indexed && over("spec.completions", 100_000) && over("spec.parallelism", 10_000) {
            warnings.push("In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail".to_owned());
        }
        warnings
    }
    fn default_propagation(&self) -> Option<&'static str> {
        Some("Orphan")
    }
}

const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];

/// A job without a selector of its own selects by its uid, which its template's labels carry.
fn own_selector(obj: &mut Value) {
    let (uid, name) = (tree::text(obj, "metadata.uid").to_owned(), tree::text(obj, "metadata.name").to_owned());
    let Some(spec) = obj.get_mut("spec") else { return };
    if let Some(labels) = tree::object(spec, "selector").and_then(|s| tree::object(s, "matchLabels")) {
        tree::set_default(labels, UID_LABELS[1], uid.as_str());
    }
    let metadata = tree::object(spec, "template").and_then(|t| tree::object(t, "metadata"));
    if let Some(labels) = metadata.and_then(|m| tree::object(m, "labels")) {
        UID_LABELS.iter().for_each(|key| tree::set_default(labels, key, uid.as_str()));
        NAME_LABELS.iter().for_each(|key| tree::set_default(labels, key, name.as_str()));
    }
}

/// Labels of the client's own may stand where the generated ones belong: then its pods could belong
/// to another job.
fn generated_selector(root: &Field<'_, '_>, out: &mut Causes) {
    let spec = root.field("spec");
    if spec.field("manualSelector").flag() || !spec.field("selector").present() {
        return;
    }
    let metadata = root.field("metadata");
    let (uid, name) = (metadata.field("uid"), metadata.field("name"));
    if uid.text().is_empty() {
        uid.required("", out);
    }
    let template = spec.field("template");
    let template_metadata = template.field("metadata");
    let labels = template_metadata.field("labels");
    let mut expected = serde_json::Map::new();
    for (keys, value) in [(UID_LABELS, uid), (NAME_LABELS, name)] {
        for key in keys {
            let label = labels.entry(key);
            let text = format!("must be '{}'", value.text());
            if !label.present() {
                label.required(&text, out);
            } else if label.text() != value.text() {
                label.invalid_value(labels.value, &text, out);
            }
            expected.insert(key.to_owned(), value.text().into());
        }
    }
    let selector = spec.field("selector");
    if Selector::from_object(Some(selector.value)).is_ok_and(|s| !s.matches(&Value::Object(expected))) {
        selector.invalid("`selector` not auto-generated", out);
    }
}

fn selector(spec: &Field<'_, '_>, out: &mut Causes) {
    let selector = spec.field("selector");
    if !selector.present() {
        selector.required("", out);
    }
    label_selector(&selector, out);
    if let Ok(parsed) = Selector::from_object(Some(selector.value)) {
        matches_template(spec, &parsed, out);
    }
}

/// The pods of an indexed job are called by name and index, which must fit a host's name.
fn host_name(root: &Field<'_, '_>, out: &mut Causes) {
    let (metadata, spec) = (root.field("metadata"), root.field("spec"));
    let name = metadata.field("name");
    let Some(last) = spec.field("completions").int().filter(|n| *n > 0 && job_spec::is_indexed(&spec)) else { return };
    let longest = format!("{}-{}", name.text(), last - 1);
    if !names::label(&longest).is_empty() {
        name.invalid(&format!("will not able to create pod with invalid DNS label: {longest}"), out);
    }
}
