//! Kinds of the admissionregistration group.

mod mutating_admission_policy;
mod mutating_admission_policy_binding;
mod mutating_webhook_configuration;
mod validating_admission_policy;
mod validating_admission_policy_binding;
mod validating_webhook_configuration;

use super::cells;
use super::row::computed;
use crate::kind::{Column, KindDef};
use crate::tree;

pub(super) fn rows() -> Vec<KindDef> {
    vec![
        mutating_admission_policy::row(),
        mutating_admission_policy_binding::row(),
        mutating_webhook_configuration::row(),
        validating_admission_policy::row(),
        validating_admission_policy_binding::row(),
        validating_webhook_configuration::row(),
    ]
}

/// What a policy takes parameters from.
fn param_kind() -> Column {
    computed("ParamKind", "Kind of the policy's parameters.", |v| match tree::at(v.obj, "spec.paramKind") {
        Some(p) => format!("{}/{}", tree::text(p, "apiVersion"), tree::text(p, "kind")).into(),
        None => cells::UNSET.into(),
    })
}

/// Which parameters a binding hands to its policy.
fn param_ref() -> Column {
    computed("ParamRef", "Parameters of the binding.", |v| {
        let Some(p) = tree::at(v.obj, "spec.paramRef") else { return cells::UNSET.into() };
        match (tree::text(p, "namespace"), tree::text(p, "name")) {
            (_, "") => cells::selector(p.get("selector")),
            ("", name) => format!("*/{name}").into(),
            (namespace, name) => format!("{namespace}/{name}").into(),
        }
    })
}
