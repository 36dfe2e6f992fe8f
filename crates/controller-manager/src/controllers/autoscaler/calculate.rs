//! The arithmetic of one metric: from what pods use and what they should use to how many there should
//! be.

use super::limits::whole;
use crate::metrics::Sample;
use crate::rows::Phase;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kybern_reconcile::plan::later;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::time::Duration;

/// A pod that started less than this ago may still be busy with its start.
const START: Duration = Duration::from_secs(300);
/// A pod that became unready so soon after its start was never ready.
const FIRST_READINESS: Duration = Duration::from_secs(30);

/// How far a ratio may be from one without consequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) up: f64,
    pub(super) down: f64,
}

impl Tolerance {
    pub(super) fn forgives(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What a metric says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    /// How many pods there should be.
    pub(super) size: i32,
    /// Percentage of the requests in use, where that is what counts.
    pub(super) utilization: Option<i32>,
    /// What a pod uses on average, in thousandths.
    pub(super) average: i64,
}

/// What is asked of the pods' use.
pub(super) enum Goal {
    /// So much each, in thousandths.
    Average(i64),
    /// So many percent of what each requests, in thousandths by pod.
    Utilization(i32, BTreeMap<SmolStr, i64>),
}

type Use = BTreeMap<SmolStr, i64>;

impl Goal {
    /// Use against the goal, the percentage, and the average.
    fn ratio(&self, used: &Use) -> Result<(f64, Option<i32>, i64), String> {
        match self {
            Self::Average(target) => {
                let average = sum(used.values()) / i64::try_from(used.len().max(1)).unwrap_or(i64::MAX);
                Ok((ratio(average, *target), None, average))
            }
            Self::Utilization(target, requests) => {
                let known = || used.iter().filter_map(|(pod, n)| Some((n, requests.get(pod)?)));
                let (total, requested) = (sum(known().map(|(n, _)| n)), sum(known().map(|(_, r)| r)));
                if requested == 0 {
                    return Err("no metrics returned matched known pods".into());
                }
                let percent = total.saturating_mul(100) / requested;
                let average = total / i64::try_from(known().count().max(1)).unwrap_or(i64::MAX);
                let shown = i32::try_from(percent).unwrap_or(i32::MAX);
                Ok((ratio(percent, i64::from(*target)), Some(shown), average))
            }
        }
    }
    /// What a pod without figures is taken to use when the target would shrink: all it should.
    fn assumed(&self, pod: &SmolStr) -> i64 {
        match self {
            Self::Average(target) => *target,
            Self::Utilization(target, requests) => {
                let request = requests.get(pod).copied().unwrap_or(0);
                request.saturating_mul(i64::from((*target).max(100))) / 100
            }
        }
    }
}

fn sum<'a>(values: impl Iterator<Item = &'a i64>) -> i64 {
    values.fold(0i64, |a, b| a.saturating_add(*b))
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 52 bits")]
pub(super) fn ratio(have: i64, want: i64) -> f64 {
    have as f64 / want as f64
}

/// The size that brings the pods' use to the goal.
pub(super) fn per_pod(
    now: Timestamp,
    current: i32,
    pods: &[Pod],
    samples: &[Sample],
    goal: &Goal,
    (tolerance, startup): (Tolerance, bool),
) -> Result<Figure, String> {
    let groups = Groups::of(now, pods, samples, startup);
    let mut used = groups.used.clone();
    if used.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let (first, utilization, average) = goal.ratio(&used)?;
    let figure = |size| Figure { size, utilization, average };
    let hold_back = !groups.unready.is_empty() && first > 1.0;
    if !hold_back && groups.missing.is_empty() {
        let ready = f64::from(i32::try_from(groups.ready).unwrap_or(i32::MAX));
        return Ok(figure(if tolerance.forgives(first) { current } else { whole((first * ready).ceil()) }));
    }
    // Those that nothing is known of make every change smaller.
    for pod in &groups.missing {
        let taken = if first < 1.0 { goal.assumed(pod) } else { 0 };
        if first != 1.0 {
            used.insert(pod.clone(), taken);
        }
    }
    if hold_back {
        used.extend(groups.unready.iter().map(|pod| (pod.clone(), 0)));
    }
    let (second, ..) = goal.ratio(&used)?;
    if tolerance.forgives(second) || (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0) {
        return Ok(figure(current));
    }
    let size = whole((second * f64::from(i32::try_from(used.len()).unwrap_or(i32::MAX))).ceil());
    // Never in the other direction than the use itself asks for.
    let backwards = (second < 1.0 && size > current) || (second > 1.0 && size < current);
    Ok(figure(if backwards { current } else { size }))
}

/// The size for one figure of the whole target.
pub(super) fn of_whole(current: i32, ready: i32, ratio: f64, tolerance: Tolerance) -> i32 {
    match current {
        0 => whole(ratio.ceil()),
        _ if tolerance.forgives(ratio) => current,
        _ => whole((ratio * f64::from(ready)).ceil()),
    }
}

/// The pods by what their figures are good for.
struct Groups {
    used: Use,
    ready: usize,
    unready: Vec<SmolStr>,
    missing: Vec<SmolStr>,
}

impl Groups {
    fn of(now: Timestamp, pods: &[Pod], samples: &[Sample], startup: bool) -> Self {
        let mut groups = Self { used: Use::new(), ready: 0, unready: Vec::new(), missing: Vec::new() };
        groups.used.extend(samples.iter().map(|s| (s.pod.clone(), s.value)));
        for pod in pods {
            let name = SmolStr::new(pod.metadata.name.as_deref().unwrap_or_default());
            let phase = Phase::of(pod);
            if pod.metadata.deletion_timestamp.is_some() || phase == Phase::Failed {
                groups.used.remove(&name);
            } else if phase == Phase::Pending {
                groups.used.remove(&name);
                groups.unready.push(name);
            } else if let Some(sample) = samples.iter().find(|s| s.pod == name) {
                if startup && is_starting(now, pod, sample) {
                    groups.used.remove(&name);
                    groups.unready.push(name);
                } else {
                    groups.ready += 1;
                }
            } else {
                groups.missing.push(name);
            }
        }
        groups
    }
}

/// Is a pod's CPU use that of its start rather than of its work?
fn is_starting(now: Timestamp, pod: &Pod, sample: &Sample) -> bool {
    let status = pod.status.as_ref();
    let ready = status.and_then(|s| s.conditions.as_ref()).and_then(|c| c.iter().find(|c| c.type_ == "Ready"));
    let (Some(ready), Some(start)) = (ready, status.and_then(|s| s.start_time.as_ref())) else { return true };
    let unready = ready.status == "False";
    let since = ready.last_transition_time.as_ref().map_or(start.0, |t| t.0);
    if later(start.0, START) > now {
        return unready || sample.at < later(since, sample.window);
    }
    unready && later(start.0, FIRST_READINESS) > since
}
