//! What a job's status may say: whoever manages the job, it must make sense.

use super::job_spec::is_indexed;
use crate::indexes::Indexes;
use crate::kind::Causes;
use crate::kinds::cells::condition_is_true;
use crate::meta::time;
use crate::validate::Field;
use crate::validate::field::Unique;

/// Checks the status of an update through `/status`.
pub(super) fn validate(job: &Field<'_, '_>, out: &mut Causes) {
    let status = job.field("status");
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        status.field(key).not_negative(out);
    }
    uncounted(&status.field("uncountedTerminatedPods"), out);
    conditions(job, &status, out);
    times(job, &status, out);
    finished(job, &status, out);
    indexes(job, &status, out);
}

fn is(job: &Field<'_, '_>, condition: &str) -> bool {
    condition_is_true(job.value, condition)
}

fn uncounted(pods: &Field<'_, '_>, out: &mut Causes) {
    let mut seen = Unique::default();
    for list in [pods.field("succeeded"), pods.field("failed")] {
        for uid in list.items() {
            if uid.text().is_empty() {
                uid.invalid("must not be empty", out);
            }
            seen.check(&uid, out);
        }
    }
}

fn conditions(job: &Field<'_, '_>, status: &Field<'_, '_>, out: &mut Causes) {
    let list = status.field("conditions");
    let complete = is(job, "Complete");
    if complete && is(job, "Failed") {
        list.invalid_only("cannot set Complete=True and Failed=true conditions", out);
    }
    if complete && is(job, "FailureTarget") {
        list.invalid_only("cannot set Complete=True and FailureTarget=true conditions", out);
    }
    if complete && !is(job, "SuccessCriteriaMet") {
        list.invalid_only("cannot set Complete=True condition without the SuccessCriteriaMet=true condition", out);
    }
    if is(job, "Failed") && !is(job, "FailureTarget") {
        list.invalid_only("cannot set Failed=True condition without the FailureTarget=true condition", out);
    }
    if is(job, "SuccessCriteriaMet") && (is(job, "Failed") || is(job, "FailureTarget")) {
        let other = if is(job, "Failed") { "Failed" } else { "FailureTarget" };
        list.invalid_only(&format!("cannot set SuccessCriteriaMet=True and {other}=true conditions"), out);
    }
}

fn times(job: &Field<'_, '_>, status: &Field<'_, '_>, out: &mut Causes) {
    let (start, end) = (status.field("startTime"), status.field("completionTime"));
    let complete = is(job, "Complete");
    if end.present() && !complete {
        end.invalid("cannot set completionTime when there is no Complete=True condition", out);
    }
    if !end.present() && complete {
        end.required("completionTime is required for Complete jobs", out);
    }
    let at = |field: &Field<'_, '_>| time::parse_value(Some(field.value));
    if at(&end).zip(at(&start)).is_some_and(|(end, start)| end < start) {
        end.invalid("completionTime cannot be set before startTime", out);
    }
    if !start.present() && (complete || is(job, "Failed")) {
        start.required("startTime is required for finished job", out);
    }
}

fn finished(job: &Field<'_, '_>, status: &Field<'_, '_>, out: &mut Causes) {
    if !is(job, "Complete") && !is(job, "Failed") {
        return;
    }
    for key in ["active", "terminating"] {
        let field = status.field(key);
        if field.int().is_some_and(|n| n > 0) {
            field.invalid(&format!("{key}>0 is invalid for finished job"), out);
        }
    }
    let uncounted = status.field("uncountedTerminatedPods");
    if !uncounted.field("succeeded").is_empty() || !uncounted.field("failed").is_empty() {
        uncounted.invalid("uncountedTerminatedPods needs to be empty for finished job", out);
    }
}

fn indexes(job: &Field<'_, '_>, status: &Field<'_, '_>, out: &mut Causes) {
    let spec = job.field("spec");
    let completions = spec.field("completions").int().unwrap_or_default();
    let (done, failed) = (status.field("completedIndexes"), status.field("failedIndexes"));
    if done.set() && !is_indexed(&spec) {
        return done.invalid("cannot set non-empty completedIndexes when non-indexed completion mode", out);
    }
    if failed.present() && !spec.field("backoffLimitPerIndex").present() {
        return failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null", out);
    }
    let read = |field: &Field<'_, '_>, name: &str, out: &mut Causes| {
        Indexes::parse(field.text(), completions)
            .map_err(|why| field.invalid(&format!("error parsing {name}: {why}"), out))
            .unwrap_or_default()
    };
    let both = [read(&done, "completedIndexes", out), read(&failed, "failedIndexes", out)];
    if !both[0].intersection(&both[1]).is_empty() {
        failed.invalid("failedIndexes and completedIndexes overlap", out);
    }
}
