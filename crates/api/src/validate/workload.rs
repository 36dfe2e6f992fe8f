//! What workloads with a template and a selector have in common.

use super::field::{Field, NOT_NEGATIVE};
use super::selectors::workload_selector;
use crate::kind::Causes;
use crate::tree;
use serde_json::Value;

/// Checks replicas, minReadySeconds and the selector of a workload. `kind` names it in texts; a
/// selector never changes.
pub fn workload(spec: &Field<'_, '_>, kind: &str, old: Option<&Value>, out: &mut Causes) {
    spec.field("replicas").not_negative(out);
    spec.field("minReadySeconds").not_negative(out);
    workload_selector(spec, kind, out);
    let selector = spec.field("selector");
    if old.is_some_and(|old| tree::at(old, "spec.selector") != Some(selector.value)) {
        selector.invalid(super::field::IMMUTABLE, out);
    }
}

/// Checks the counts of a status: none is below zero.
pub fn counts(status: &Field<'_, '_>, names: &[&str], out: &mut Causes) {
    for name in names {
        status.field(name).not_negative(out);
    }
}

/// Checks counts of a status that are parts of another one; `whole` is how texts name that.
pub fn parts(status: &Field<'_, '_>, names: &[&str], of: &str, whole: &str, out: &mut Causes) {
    let limit = status.field(of).int().unwrap_or_default();
    for name in names {
        let part = status.field(name);
        if part.int().is_some_and(|n| n > limit) {
            part.invalid(&format!("cannot be greater than {whole}"), out);
        }
    }
}

/// Checks status.collisionCount, which only rises.
pub fn collisions(status: &Field<'_, '_>, old: Option<&Value>, out: &mut Causes) {
    let count = status.field("collisionCount");
    count.not_negative(out);
    let before = old.and_then(|o| tree::int(o, "status.collisionCount"));
    if before.is_some_and(|before| count.int().unwrap_or_default() < before) {
        count.invalid_value(&count.int().unwrap_or_default().into(), "cannot be decremented", out);
    }
}

/// Checks a number of pods, given as such or in percent, of which there are 100 at most.
pub fn share(share: &Field<'_, '_>, out: &mut Causes) {
    any_share(share, out);
    if percent(share).is_some_and(|n| n > 100) {
        share.invalid("must not be greater than 100%", out);
    }
}

/// Checks a number of pods, given as such or in percent.
pub fn any_share(share: &Field<'_, '_>, out: &mut Causes) {
    match share.int() {
        Some(n) if n < 0 => share.invalid(NOT_NEGATIVE, out),
        Some(_) => {}
        None if percent(share).is_some() => {}
        None => share.invalid("a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')", out),
    }
}

fn percent(share: &Field<'_, '_>) -> Option<u64> {
    let digits = share.text().strip_suffix('%').filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))?;
    // More digits than a number has are many percent.
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Is the share nothing?
pub fn is_zero_share(share: &Field<'_, '_>) -> bool {
    share.int() == Some(0) || percent(share) == Some(0)
}
