//! What workloads with a template and a selector have in common.

use super::field::{Field, NOT_NEGATIVE};
use super::selectors::workload_selector;
use super::template::{Holder, template};
use crate::kind::Causes;
use crate::tree;
use serde_json::Value;

/// Checks replicas, minReadySeconds, selector and template of a workload whose pods run forever.
/// `kind` names it in texts; a selector never changes.
pub fn workload(spec: &Field<'_, '_>, kind: &str, old: Option<&Value>, out: &mut Causes) {
    spec.field("replicas").not_negative(out);
    spec.field("minReadySeconds").not_negative(out);
    workload_selector(spec, kind, out);
    template(&spec.field("template"), Holder::Forever, out);
    let selector = spec.field("selector");
    if old.is_some_and(|old| tree::at(old, "spec.selector") != Some(selector.value)) {
        selector.invalid(super::field::IMMUTABLE, out);
    }
}

/// Checks a number of pods, given as such or in percent.
pub fn share(share: &Field<'_, '_>, out: &mut Causes) {
    let percent = share.text().strip_suffix('%').and_then(|n| n.parse::<i64>().ok());
    match (share.int(), percent) {
        (Some(n), _) if n < 0 => share.invalid(NOT_NEGATIVE, out),
        (Some(_), _) => {}
        (None, Some(n)) if (0..=100).contains(&n) => {}
        (None, Some(n)) if n > 100 => share.invalid("must not be greater than 100%", out),
        _ => share.invalid("a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')", out),
    }
}

/// Is the share nothing?
pub fn is_zero_share(share: &Field<'_, '_>) -> bool {
    share.int() == Some(0) || share.text() == "0%"
}
