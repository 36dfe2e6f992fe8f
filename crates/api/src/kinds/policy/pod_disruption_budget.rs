//! PodDisruptionBudget: how many pods may be evicted at once.

use crate::kind::{Causes, Context, KindDef, NameRule, Strategy};
use crate::kinds::row::{Row, age, computed, count, name};
use crate::tree;
use crate::validate::{self, Field, selectors::label_selector};
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
        .short(&["pdb"])
        .status()
        .needs_revision()
        .names(NameRule::Path)
        .columns([
            name(),
            computed("Min Available", "How many pods must be there.", |v| bound(tree::at(v.obj, "spec.minAvailable"))),
            computed("Max Unavailable", "How many pods may be missing.", |v| {
                bound(tree::at(v.obj, "spec.maxUnavailable"))
            }),
            count("Allowed Disruptions", "status.disruptionsAllowed"),
            age(),
        ])
        .strategy(&PodDisruptionBudget)
        .build()
}

/// A number or percentage as text.
fn bound(value: Option<&Value>) -> Value {
    match value {
        Some(Value::String(percent)) => percent.as_str().into(),
        Some(Value::Number(n)) => n.to_string().into(),
        _ => "N/A".into(),
    }
}

struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn validate(&self, ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        if ctx.subresource == "status" {
            let status = root.field("status");
            for counter in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
                status.field(counter).not_negative(out);
            }
            return;
        }
        let spec = root.field("spec");
        let (least, most) = (spec.field("minAvailable"), spec.field("maxUnavailable"));
        if least.present() && most.present() {
            spec.invalid("minAvailable and maxUnavailable cannot be both set", out);
        }
        for bound in [&least, &most] {
            if bound.present() {
                validate::share(bound, out);
            }
        }
        label_selector(&spec.field("selector"), out);
        spec.field("unhealthyPodEvictionPolicy").optional_one_of(&["AlwaysAllow", "IfHealthyBudget"], out);
    }
}
