//! The spec of a job, on its own and inside a cron job's template.

use super::job_policies::{failure_policy, success_policy};
use crate::kind::Causes;
use crate::kinds::pod_defaults;
use crate::tree;
use crate::validate::{self, Field, Holder};
use serde_json::Value;

/// More pods at a time than this are too many for the text of an indexed job's status.
const PARALLELISM_MAX: i64 = 100_000;
/// The same for failed indexes.
const FAILED_INDEXES_MAX: i64 = 100_000;
/// From this many completions on, the two limits below hold for jobs that count failures per index.
const MANY_COMPLETIONS: i64 = 100_000;
/// Pods at a time, or failed indexes, of a job with many completions.
const LIMIT_OF_MANY: i64 = 10_000;
/// A controller's name goes into a label.
const MANAGED_BY_MAX: usize = 63;

/// Sets the defaults.
pub(super) fn defaults(spec: &mut Value) {
    if spec.get("parallelism").is_none_or(Value::is_null) {
        tree::set_if_absent(spec, "completions", 1);
    }
    tree::set_if_absent(spec, "parallelism", 1);
    let per_index = spec.get("backoffLimitPerIndex").is_some();
    tree::set_if_absent(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    tree::set_default(spec, "completionMode", "NonIndexed");
    tree::set_if_absent(spec, "suspend", false);
    tree::set_if_absent(spec, "manualSelector", false);
    let failure_policy = spec.get("podFailurePolicy").is_some();
    tree::set_default(spec, "podReplacementPolicy", if failure_policy { "Failed" } else { "TerminatingOrFailed" });
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        tree::each(policy, "rules", |rule| {
            tree::each(rule, "onPodConditions", |condition| tree::set_default(condition, "status", "True"));
        });
    }
    if let Some(template) = spec.get_mut("template") {
        pod_defaults::template(template);
    }
}

/// Does it run one pod for each index?
pub(super) fn is_indexed(spec: &Field<'_, '_>) -> bool {
    spec.field("completionMode").text() == "Indexed"
}

/// Checks all but the selector, which a cron job's template has not.
pub(super) fn validate(spec: &Field<'_, '_>, out: &mut Causes) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.field(key).not_negative(out);
    }
    let (per_index, failed) = (spec.field("backoffLimitPerIndex"), spec.field("maxFailedIndexes"));
    if failed.present() && !per_index.present() {
        per_index.required("when maxFailedIndexes is specified", out);
    }
    managed_by(&spec.field("managedBy"), out);
    spec.field("completionMode").optional_one_of(&["Indexed", "NonIndexed"], out);
    if is_indexed(spec) {
        indexed(spec, out);
    } else {
        for field in [per_index, failed].iter().filter(|f| f.present()) {
            field.invalid("requires indexed completion mode", out);
        }
    }
    policies(spec, out);
    let template = spec.field("template");
    validate::template(&template, Holder::ToCompletion, out);
    let pod = template.field("spec");
    let restart = pod.field("restartPolicy");
    if spec.field("podFailurePolicy").present() && restart.text() == "OnFailure" {
        restart.invalid("only \"Never\" is supported when podFailurePolicy is specified", out);
    }
}

fn managed_by(name: &Field<'_, '_>, out: &mut Causes) {
    if !name.present() {
        return;
    }
    domain_prefixed_path(name, out);
    if name.text().len() > MANAGED_BY_MAX {
        name.too_long(MANAGED_BY_MAX, out);
    }
}

/// A name such as `example.com/controller`.
fn domain_prefixed_path(name: &Field<'_, '_>, out: &mut Causes) {
    if name.text().is_empty() {
        return name.required("", out);
    }
    let Some((domain, path)) = name.text().split_once('/').filter(|(d, p)| !d.is_empty() && !p.is_empty()) else {
        return name.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")", out);
    };
    for problem in crate::meta::names::subdomain(domain) {
        name.invalid_value(&domain.into(), &problem, out);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@%/".contains(c);
    if !path.chars().all(allowed) {
        name.invalid_value(
            &path.into(),
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
            out,
        );
    }
}

fn indexed(spec: &Field<'_, '_>, out: &mut Causes) {
    let (completions, parallelism) = (spec.field("completions"), spec.field("parallelism"));
    let failed = spec.field("maxFailedIndexes");
    let over = |field: &Field<'_, '_>, limit: i64| field.int().is_some_and(|n| n > limit);
    if !completions.present() {
        completions.required("when completion mode is Indexed", out);
    }
    if over(&parallelism, PARALLELISM_MAX) {
        let text = format!("must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed");
        parallelism.invalid(&text, out);
    }
    if completions.int().is_some_and(|n| over(&failed, n)) {
        failed.invalid("must be less than or equal to completions", out);
    }
    if over(&failed, FAILED_INDEXES_MAX) {
        failed.invalid(&format!("must be less than or equal to {FAILED_INDEXES_MAX}"), out);
    }
    if over(&completions, MANY_COMPLETIONS) && spec.field("backoffLimitPerIndex").present() {
        if !failed.present() {
            failed.required(&format!("must be specified when completions is above {MANY_COMPLETIONS}"), out);
        }
        for field in [&parallelism, &failed].into_iter().filter(|f| over(f, LIMIT_OF_MANY)) {
            let text = format!(
                "must be less than or equal to {LIMIT_OF_MANY} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
            );
            field.invalid(&text, out);
        }
    }
}

fn policies(spec: &Field<'_, '_>, out: &mut Causes) {
    let (failure, success) = (spec.field("podFailurePolicy"), spec.field("successPolicy"));
    if failure.present() {
        failure_policy(spec, &failure, out);
    }
    if success.present() {
        if is_indexed(spec) {
            success_policy(spec, &success, out);
        } else {
            success.invalid("requires indexed completion mode", out);
        }
    }
    let supported: &[&str] = if failure.present() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    spec.field("podReplacementPolicy").optional_one_of(supported, out);
}
