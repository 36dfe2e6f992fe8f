//! How long a job waits after pods failed before it makes new ones.
//!
//! All of it is read from the pods themselves, so that a restart of the controller forgets nothing.

use super::pods::Pod;
use super::spec::Spec;
use jiff::{SignedDuration, Timestamp};

/// Wait after the first failure; doubles.
const FIRST: i64 = 10;
/// The longest wait.
const LONGEST: i64 = 600;

/// When pods may be made again, given how often they failed and when last.
fn ready_at(failures: i32, last: i64) -> Option<Timestamp> {
    if failures <= 0 {
        return None;
    }
    let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX);
    let wait = 1_i64.checked_shl(doublings).and_then(|n| n.checked_mul(FIRST)).map_or(LONGEST, |w| w.min(LONGEST));
    let wait = if doublings >= 63 { LONGEST } else { wait };
    Timestamp::from_second(last).ok()?.checked_add(SignedDuration::from_secs(wait)).ok()
}

/// The time before which a job makes no pods; None when it need not wait. What counts is the number
/// of failures since the last success.
pub(super) fn of_job(spec: Spec<'_>, pods: &[Pod<'_>], now: Timestamp) -> Option<Timestamp> {
    let last_success = pods.iter().filter(|p| p.has_succeeded()).map(|p| p.job.finished).max();
    let failures = pods.iter().filter(|p| p.has_failed(&spec) && last_success.is_none_or(|at| p.job.finished > at));
    let (count, last) = failures.fold((0, i64::MIN), |(n, last), p| (n + 1, last.max(p.job.finished)));
    ready_at(count, last).filter(|at| *at > now)
}

/// The time before which an index is not tried again after its last pod failed.
pub(super) fn of_index(last: Option<&Pod<'_>>, now: Timestamp) -> Option<Timestamp> {
    let pod = last?;
    ready_at(pod.job.failures_of_index() + 1, pod.job.finished).filter(|at| *at > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_minutes() {
        let wait = |failures| ready_at(failures, 1000).map(|at| at.as_second() - 1000);
        let waits: Vec<Option<i64>> = [0, 1, 2, 3, 6, 7, 8, 64, i32::MAX].map(wait).into();
        let want = [None, Some(10), Some(20), Some(40), Some(320), Some(600), Some(600), Some(600), Some(600)];
        assert_eq!(waits, want);
    }
}
