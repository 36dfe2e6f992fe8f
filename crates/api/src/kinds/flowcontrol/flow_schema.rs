//! FlowSchema: which priority level a request belongs to.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, field, name, text, text_or};
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas")
        .cluster()
        .status()
        .columns([
            name(),
            text("PriorityLevel", "spec.priorityLevelConfiguration.name"),
            field("MatchingPrecedence", "string", "spec.matchingPrecedence", 0),
            text_or("DistinguisherMethod", "spec.distinguisherMethod.type", cells::NONE),
            age(),
            computed("MissingPL", "Whether the priority level is missing.", |v| {
                cells::condition(v.obj, "Dangling").map_or("?", |c| tree::text(c, "status")).into()
            }),
        ])
        .strategy(&FlowSchema)
        .build()
}

struct FlowSchema;

impl Strategy for FlowSchema {
    fn default(&self, obj: &mut Value) {
        if let Some(spec) = obj.get_mut("spec") {
            tree::set_default_nonzero(spec, "matchingPrecedence", 1000);
        }
    }

    fn validate(&self, ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        if ctx.subresource == "status" {
            return;
        }
        let root = Field::root(obj);
        let (spec, metadata) = (root.field("spec"), root.field("metadata"));
        let precedence = spec.field("matchingPrecedence");
        match precedence.int() {
            Some(1) if metadata.field("name").text() != "exempt" => {
                precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1", out);
            }
            Some(..=0) => precedence.invalid("must be a positive value", out),
            Some(10_001..) => precedence.invalid("must not be greater than 10000", out),
            _ => {}
        }
        let level = spec.field("priorityLevelConfiguration");
        if !level.field("name").set() {
            level.field("name").required("must reference a priority level", out);
        }
        let distinguisher = spec.field("distinguisherMethod");
        if distinguisher.present() {
            distinguisher.field("type").one_of(&["ByNamespace", "ByUser"], out);
        }
        spec.field("rules").items().for_each(|rule| self::rule(&rule, out));
    }
}

fn rule(rule: &Field<'_, '_>, out: &mut Causes) {
    let (subjects, of_resources, of_paths) =
        (rule.field("subjects"), rule.field("resourceRules"), rule.field("nonResourceRules"));
    at_least_one(&subjects, "subjects must contain at least one value", out);
    subjects.items().for_each(|s| subject(&s, out));
    if of_resources.is_empty() && of_paths.is_empty() {
        rule.required("at least one of resourceRules and nonResourceRules has to be non-empty", out);
    }
    for rule in of_resources.items() {
        at_least_one(&rule.field("verbs"), "verbs must contain at least one value", out);
        at_least_one(&rule.field("apiGroups"), "resource rules must supply at least one api group", out);
        at_least_one(&rule.field("resources"), "resource rules must supply at least one resource", out);
        if !rule.field("clusterScope").flag() {
            let text = "resource rules that are not cluster scoped must supply at least one namespace";
            at_least_one(&rule.field("namespaces"), text, out);
        }
    }
    for rule in of_paths.items() {
        at_least_one(&rule.field("verbs"), "verbs must contain at least one value", out);
        at_least_one(&rule.field("nonResourceURLs"), "nonResourceURLs must contain at least one value", out);
    }
}

fn at_least_one(list: &Field<'_, '_>, text: &str, out: &mut Causes) {
    if list.is_empty() {
        list.required(text, out);
    }
}

/// Exactly the part that its kind names.
fn subject(subject: &Field<'_, '_>, out: &mut Causes) {
    const PARTS: [(&str, &str); 3] = [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let kind = subject.field("kind");
    if !PARTS.iter().any(|(k, _)| *k == kind.text()) {
        kind.unsupported(&PARTS.map(|(k, _)| k), out);
        return;
    }
    for (of, part) in PARTS {
        let part = subject.field(part);
        if of != kind.text() {
            if part.present() {
                part.forbidden(
                    &format!("{part_name} is forbidden when subject kind is not '{of}'", part_name = name_of(of)),
                    out,
                );
            }
        } else if part.present() {
            part.field("name").demand(out);
            if of == "ServiceAccount" {
                part.field("namespace").demand(out);
            }
        } else {
            part.required(&format!("{} is required when subject kind is '{of}'", name_of(of)), out);
        }
    }
}

fn name_of(kind: &str) -> &'static str {
    match kind {
        "Group" => "group",
        "User" => "user",
        _ => "serviceAccount",
    }
}
