//! Job: pods that run to completion.

use crate::kind::{KindDef, View};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::kinds::workload;
use crate::meta::time;
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("batch", "v1", "Job", "jobs")
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
