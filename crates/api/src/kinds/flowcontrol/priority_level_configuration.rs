//! PriorityLevelConfiguration: how many requests of a level run at once.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, name, text, text_or};
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    const QUEUING: &str = "spec.limited.limitResponse.queuing";
    Row::new("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations")
        .cluster()
        .status()
        .columns([
            name(),
            text("Type", "spec.type"),
            text_or("NominalConcurrencyShares", "spec.limited.nominalConcurrencyShares", cells::NONE),
            text_or("Queues", &format!("{QUEUING}.queues"), cells::NONE),
            text_or("HandSize", &format!("{QUEUING}.handSize"), cells::NONE),
            text_or("QueueLengthLimit", &format!("{QUEUING}.queueLengthLimit"), cells::NONE),
            age(),
        ])
        .strategy(&PriorityLevelConfiguration)
        .build()
}

struct PriorityLevelConfiguration;

impl Strategy for PriorityLevelConfiguration {
    fn default(&self, obj: &mut Value) {
        if let Some(limited) = tree::at_mut(obj, "spec.limited") {
            tree::set_if_absent(limited, "nominalConcurrencyShares", 30);
            tree::set_if_absent(limited, "lendablePercent", 0);
            if let Some(queuing) = tree::at_mut(limited, "limitResponse.queuing") {
                tree::set_default_nonzero(queuing, "queues", 64);
                tree::set_default_nonzero(queuing, "handSize", 8);
                tree::set_default_nonzero(queuing, "queueLengthLimit", 50);
            }
        }
        if let Some(exempt) = tree::at_mut(obj, "spec.exempt") {
            tree::set_if_absent(exempt, "nominalConcurrencyShares", 0);
            tree::set_if_absent(exempt, "lendablePercent", 0);
        }
    }

    fn validate(&self, ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        if ctx.subresource == "status" {
            return;
        }
        let root = Field::root(obj);
        let (spec, metadata) = (root.field("spec"), root.field("metadata"));
        let (kind, limited, exempt) = (spec.field("type"), spec.field("limited"), spec.field("exempt"));
        if (metadata.field("name").text() == "exempt") != (kind.text() == "Exempt") {
            kind.invalid("type must be 'Exempt' if and only if `name` is 'exempt'", out);
        }
        match kind.text() {
            "Exempt" => {
                if limited.present() {
                    limited.forbidden("must be nil if the type is not Limited", out);
                }
                shares(&exempt, out);
            }
            "Limited" => {
                if exempt.present() {
                    exempt.forbidden("must be nil if the type is Limited", out);
                }
                if limited.present() {
                    limits(&limited, out);
                } else {
                    limited.required("must not be empty", out);
                }
            }
            _ => kind.unsupported(&["Exempt", "Limited"], out),
        }
    }
}

fn shares(of: &Field<'_, '_>, out: &mut Causes) {
    let shares = of.field("nominalConcurrencyShares");
    if shares.int().is_some_and(|n| n < 0) {
        shares.invalid("must be a non-negative integer", out);
    }
    of.field("lendablePercent").in_range(0..=100, out);
}

fn limits(limited: &Field<'_, '_>, out: &mut Causes) {
    shares(limited, out);
    let borrowing = limited.field("borrowingLimitPercent");
    if borrowing.int().is_some_and(|n| n < 0) {
        borrowing.invalid("if specified, must be a non-negative integer", out);
    }
    let response = limited.field("limitResponse");
    let (kind, queuing) = (response.field("type"), response.field("queuing"));
    match kind.text() {
        "Reject" if queuing.present() => {
            queuing.forbidden("must be nil if limited.limitResponse.type is not Limited", out);
        }
        "Reject" => {}
        "Queue" if !queuing.present() => {
            queuing.required("must not be empty if limited.limitResponse.type is Limited", out);
        }
        "Queue" => queues(&queuing, out),
        _ => kind.unsupported(&["Queue", "Reject"], out),
    }
}

fn queues(queuing: &Field<'_, '_>, out: &mut Causes) {
    let (queues, hand) = (queuing.field("queues"), queuing.field("handSize"));
    for number in [&queuing.field("queueLengthLimit"), &queues, &hand] {
        if number.int().is_some_and(|n| n <= 0) {
            number.invalid("must be positive", out);
        }
    }
    match (queues.int(), hand.int()) {
        (Some(all), Some(dealt)) if dealt > all => {
            hand.invalid(&format!("should not be greater than queues ({all})"), out)
        }
        // A hand is dealt out of the 60 bits of a hash.
        (Some(all), Some(dealt)) if all > 0 && dealt > 0 && entropy(all, dealt) > 60.0 => {
            let bits = entropy(all, dealt).ceil();
            hand.invalid(&format!("required entropy bits of deckSize {all} and handSize {dealt} should not be greater than 60 but is {bits}"), out);
        }
        _ => {}
    }
}

/// Bits that it takes to deal a hand.
fn entropy(queues: i64, hand: i64) -> f64 {
    (0..hand.min(64)).map(|dealt| ((queues - dealt) as f64).log2()).sum()
}
