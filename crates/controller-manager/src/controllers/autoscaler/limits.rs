//! A proposed size becomes one that may be set now: windows against flutter, policies against haste,
//! bounds.

use super::history::History;
use super::outcome::Outcome;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use std::time::Duration;

/// A target shrinks to the most that was proposed in this time.
const DOWN_WINDOW: i32 = 300;

/// What an autoscaler may do.
pub(super) struct Bounds<'a> {
    pub(super) least: i32,
    pub(super) most: i32,
    pub(super) behavior: Option<&'a HorizontalPodAutoscalerBehavior>,
}

/// A size and why it is (or is not) the one that was asked for.
struct Limited {
    size: i32,
    reason: &'static str,
    message: &'static str,
}

const TOO_MANY: (&str, &str) = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_FAST_UP: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const FITS: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const LOWER_BEFORE: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const HIGHER_BEFORE: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);

impl Limited {
    fn new(size: i32, (reason, message): (&'static str, &'static str)) -> Self {
        Self { size, reason, message }
    }
}

/// The size to set, with the conditions that say how it came about.
pub(super) fn tame(
    now: Timestamp,
    current: i32,
    proposed: i32,
    bounds: &Bounds<'_>,
    history: &mut History,
    outcome: &mut Outcome<'_>,
) -> i32 {
    let steady = match bounds.behavior {
        None => settle_plainly(now, proposed, history),
        Some(behavior) => settle(now, current, proposed, behavior, history),
    };
    history.propose(now, proposed);
    if steady.size == proposed {
        outcome.set("AbleToScale", true, "ReadyForNewScale", "recommended size matches current size".into());
    } else {
        outcome.set("AbleToScale", true, steady.reason, steady.message.into());
    }
    let limited = match bounds.behavior {
        None => limit_plainly(current, steady.size, bounds),
        Some(behavior) => limit(now, current, steady.size, bounds, behavior, history),
    };
    outcome.set("ScalingLimited", limited.size != steady.size, limited.reason, limited.message.into());
    limited.size
}

fn settle_plainly(now: Timestamp, proposed: i32, history: &History) -> Limited {
    let highest = history.proposals(now, seconds(DOWN_WINDOW)).fold(proposed, i32::max);
    Limited::new(highest, HIGHER_BEFORE)
}

fn limit_plainly(current: i32, wanted: i32, bounds: &Bounds<'_>) -> Limited {
    // At most doubled at once, but always up to four.
    let rate = current.saturating_mul(2).max(4);
    let (most, why) = if bounds.most > rate { (rate, TOO_FAST_UP) } else { (bounds.most, TOO_MANY) };
    if wanted < bounds.least {
        Limited::new(bounds.least, TOO_FEW)
    } else if wanted > most {
        Limited::new(most, why)
    } else {
        Limited::new(wanted, FITS)
    }
}

fn settle(
    now: Timestamp,
    current: i32,
    proposed: i32,
    behavior: &HorizontalPodAutoscalerBehavior,
    history: &History,
) -> Limited {
    let window = |rules: Option<&HPAScalingRules>, default: i32| {
        seconds(rules.and_then(|r| r.stabilization_window_seconds).unwrap_or(default))
    };
    let up = history.proposals(now, window(behavior.scale_up.as_ref(), 0)).fold(proposed, i32::min);
    let down = history.proposals(now, window(behavior.scale_down.as_ref(), DOWN_WINDOW)).fold(proposed, i32::max);
    // `up` never exceeds `down`: both include the proposal.
    let size = current.max(up).min(down);
    Limited::new(size, if proposed >= current { LOWER_BEFORE } else { HIGHER_BEFORE })
}

fn limit(
    now: Timestamp,
    current: i32,
    wanted: i32,
    bounds: &Bounds<'_>,
    behavior: &HorizontalPodAutoscalerBehavior,
    history: &History,
) -> Limited {
    if wanted > current {
        let rate = rate(now, current, behavior.scale_up.as_ref(), true, history).max(current);
        let (most, why) = if bounds.most > rate { (rate, TOO_FAST_UP) } else { (bounds.most, TOO_MANY) };
        if wanted > most {
            return Limited::new(most, why);
        }
    } else if wanted < current {
        let rate = rate(now, current, behavior.scale_down.as_ref(), false, history).min(current);
        let (least, why) = if bounds.least < rate { (rate, TOO_FAST_DOWN) } else { (bounds.least, TOO_FEW) };
        if wanted < least {
            return Limited::new(least, why);
        }
    }
    Limited::new(wanted, FITS)
}

/// The size that the policies of one direction allow now.
fn rate(now: Timestamp, current: i32, rules: Option<&HPAScalingRules>, up: bool, history: &History) -> i32 {
    let free = if up { i32::MAX } else { 0 };
    let Some(rules) = rules else { return free };
    let chosen = rules.select_policy.as_deref().unwrap_or("Max");
    if chosen == "Disabled" {
        return current;
    }
    let allowed = rules.policies.iter().flatten().map(|policy| {
        let (grew, shrank) = history.moved(now, seconds(policy.period_seconds));
        // What the target had when the policy's period began.
        let start = current.saturating_sub(grew).saturating_add(shrank);
        match (policy.type_.as_str(), up) {
            ("Pods", true) => start.saturating_add(policy.value),
            ("Pods", false) => start.saturating_sub(policy.value),
            // Rounded up: a small share of a small target must still let it grow.
            (_, true) => whole((f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil()),
            (_, false) => whole((f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)).trunc()),
        }
    });
    // "Max" is the greatest change: up to the highest size, down to the lowest.
    let highest = (chosen == "Max") == up;
    (if highest { allowed.max() } else { allowed.min() }).unwrap_or(free)
}

/// A figure as a number of pods.
pub(super) fn whole(figure: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the range before")]
    let n = figure.clamp(0.0, f64::from(i32::MAX)) as i32;
    n
}

fn seconds(n: i32) -> Duration {
    Duration::from_secs(n.max(0).unsigned_abs().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Steps of one autoscaler: seconds since the last, size that is proposed, size that comes of it.
    fn run(behavior: Value, (least, most): (i32, i32), mut current: i32, steps: &[(i64, i32, i32)]) {
        let behavior: Option<HorizontalPodAutoscalerBehavior> = serde_json::from_value(behavior).expect("a behavior");
        let bounds = Bounds { least, most, behavior: behavior.as_ref() };
        let mut history = History::default();
        let mut now = Timestamp::UNIX_EPOCH;
        for (step, (after, proposed, want)) in steps.iter().enumerate() {
            now = now.saturating_add(jiff::SignedDuration::from_secs(*after)).expect("a time");
            history.observe(now, current);
            let view = kybern_reconcile::view::View::new([].into());
            let world = kybern_reconcile::view::World { view: &view, now, steady: now, failure: None };
            let mut outcome = Outcome::of(&world, &Default::default());
            let size = tame(now, current, *proposed, &bounds, &mut history, &mut outcome);
            assert_eq!(size, *want, "step {step}");
            if size != current {
                history.expect(current, size);
                current = size;
            }
        }
    }

    #[test]
    fn a_target_shrinks_to_the_most_of_the_last_five_minutes() {
        run(Value::Null, (1, 100), 10, &[(0, 10, 10), (60, 4, 10), (60, 6, 10), (179, 2, 10), (2, 2, 6), (120, 2, 2)]);
    }

    #[test]
    fn a_target_at_most_doubles() {
        run(Value::Null, (1, 100), 1, &[(0, 50, 4), (15, 50, 8), (15, 20, 16), (15, 20, 32)]);
    }

    #[test]
    fn policies_limit_what_happens_in_their_period() {
        let up = |select: &str| {
            let policies = json!([
                {"type": "Pods", "value": 2, "periodSeconds": 60}, {"type": "Percent", "value": 100, "periodSeconds": 60}]);
            json!({"scaleUp": {"selectPolicy": select, "policies": policies, "stabilizationWindowSeconds": 0}})
        };
        run(up("Max"), (1, 100), 5, &[(0, 50, 10), (15, 50, 10), (60, 50, 20)]);
        run(up("Min"), (1, 100), 5, &[(0, 50, 7), (15, 50, 7), (60, 50, 9)]);
        run(up("Disabled"), (1, 100), 5, &[(0, 50, 5), (60, 50, 5)]);
    }

    #[test]
    fn shrinking_has_policies_and_a_window_of_its_own() {
        let down = |policies: Value| json!({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": policies}});
        let percent = json!([{"type": "Percent", "value": 10, "periodSeconds": 60}]);
        run(down(percent), (1, 100), 80, &[(0, 1, 72), (15, 1, 72), (60, 1, 64), (15, 1, 64), (60, 1, 57)]);
        run(
            json!({"scaleDown": {"stabilizationWindowSeconds": 60}}),
            (2, 100),
            9,
            &[(0, 9, 9), (30, 1, 9), (31, 1, 2)],
        );
    }

    #[test]
    fn growing_waits_for_its_window() {
        let up = json!({"scaleUp": {"stabilizationWindowSeconds": 60}});
        run(up, (1, 100), 2, &[(0, 2, 2), (30, 9, 2), (31, 8, 8)]);
    }

    #[test]
    fn figures_never_leave_the_numbers() {
        assert_eq!((whole(f64::INFINITY), whole(-3.0), whole(f64::NAN)), (i32::MAX, 0, 0));
        run(Value::Null, (1, i32::MAX), 1, &[(0, i32::MAX, 4)]);
    }
}
