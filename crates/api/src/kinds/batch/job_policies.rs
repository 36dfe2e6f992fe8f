//! What a job says about pods that fail, and about being done early.

use crate::indexes::Indexes;
use crate::kind::Causes;
use crate::meta::names;
use crate::validate::Field;
use serde_json::Value;

/// Rules of either policy, and conditions of a rule.
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_TEXT_MAX: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

/// One of the words, with a text of its own where there is none.
fn word(field: &Field<'_, '_>, supported: &[&str], out: &mut Causes) {
    if field.set() {
        field.optional_one_of(supported, out);
    } else {
        let quoted: Vec<String> = supported.iter().map(|w| format!("{w:?}")).collect();
        field.required(&format!("valid values: [{}]", quoted.join(" ")), out);
    }
}

pub(super) fn failure_policy(spec: &Field<'_, '_>, policy: &Field<'_, '_>, out: &mut Causes) {
    let rules = policy.field("rules");
    if rules.len() > RULES_MAX {
        rules.too_many(RULES_MAX, out);
    }
    let names = container_names(spec);
    for rule in rules.items() {
        let action = rule.field("action");
        if action.text() == "FailIndex" && !spec.field("backoffLimitPerIndex").present() {
            action.invalid("requires the backoffLimitPerIndex to be set", out);
        }
        word(&action, &ACTIONS, out);
        let (codes, conditions) = (rule.field("onExitCodes"), rule.field("onPodConditions"));
        if codes.present() {
            exit_codes(&codes, &names, out);
        }
        pod_conditions(&conditions, out);
        match (codes.present(), !conditions.is_empty()) {
            (true, true) => {
                rule.invalid_only("specifying both OnExitCodes and OnPodConditions is not supported", out);
            }
            (false, false) => rule.invalid_only("specifying one of OnExitCodes and OnPodConditions is required", out),
            _ => {}
        }
    }
}

fn container_names<'v>(spec: &Field<'_, 'v>) -> Vec<&'v str> {
    let lists = ["initContainers", "containers"];
    let named = |list| crate::tree::list(spec.value, &format!("template.spec.{list}")).iter();
    lists.into_iter().flat_map(named).map(|c| crate::tree::text(c, "name")).collect()
}

fn exit_codes(codes: &Field<'_, '_>, containers: &[&str], out: &mut Causes) {
    let (operator, container, values) = (codes.field("operator"), codes.field("containerName"), codes.field("values"));
    word(&operator, &["In", "NotIn"], out);
    if container.present() && !containers.contains(&container.text()) {
        container.invalid("must be one of the container or initContainer names in the pod template", out);
    }
    if values.is_empty() {
        let none = Value::Array(Vec::new());
        values.invalid_value(&none, "at least one value is required", out);
    } else if values.len() > EXIT_CODES_MAX {
        values.too_many(EXIT_CODES_MAX, out);
    }
    let mut seen = Vec::new();
    for value in values.items() {
        if operator.text() == "In" && value.int() == Some(0) {
            value.invalid("must not be 0 for the In operator", out);
        }
        if seen.contains(&value.int()) {
            value.duplicate(out);
        }
        seen.push(value.int());
    }
    if !seen.is_sorted() {
        values.invalid("must be ordered", out);
    }
}

fn pod_conditions(conditions: &Field<'_, '_>, out: &mut Causes) {
    if conditions.len() > RULES_MAX {
        conditions.too_many(RULES_MAX, out);
    }
    for pattern in conditions.items() {
        let kind = pattern.field("type");
        kind.invalid_each(names::qualified_name(kind.text()), out);
        word(&pattern.field("status"), &["False", "True", "Unknown"], out);
    }
}

pub(super) fn success_policy(spec: &Field<'_, '_>, policy: &Field<'_, '_>, out: &mut Causes) {
    let rules = policy.field("rules");
    if rules.is_empty() {
        rules.required("at least one rules must be specified when the successPolicy is specified", out);
    }
    if rules.len() > RULES_MAX {
        rules.too_many(RULES_MAX, out);
    }
    let completions = spec.field("completions").int().unwrap_or_default();
    for rule in rules.items() {
        success_rule(&rule, completions, out);
    }
}

fn success_rule(rule: &Field<'_, '_>, completions: i64, out: &mut Causes) {
    let (count, indexes) = (rule.field("succeededCount"), rule.field("succeededIndexes"));
    if !count.present() && !indexes.present() {
        rule.required("at least one of succeededCount or succeededIndexes must be specified", out);
    }
    let mut named = 0;
    if indexes.present() {
        if indexes.text().len() > INDEXES_TEXT_MAX {
            indexes.too_long(INDEXES_TEXT_MAX, out);
        }
        match Indexes::parse(indexes.text(), completions) {
            Ok(set) => named = i64::try_from(set.total()).unwrap_or(i64::MAX),
            Err(why) => indexes.invalid(&format!("error parsing succeededIndexes: {why}"), out),
        }
    }
    count.not_negative(out);
    let over = |limit: i64| count.int().is_some_and(|n| n > limit);
    if over(completions) {
        let text = format!("must be less than or equal to {completions} (the number of specified completions)");
        count.invalid(&text, out);
    }
    if indexes.present() && over(named) {
        let text = format!(
            "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
        );
        count.invalid(&text, out);
    }
}
