//! Whether a job has come to its end, and why.

use super::round::Round;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus, SuccessPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kybern_api::indexes::Indexes;

/// How a job ends. It is first announced by an interim condition; the final one follows when every
/// pod is counted and gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) is_success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Ending {
    fn failure(reason: &str, message: impl Into<String>) -> Self {
        Self { is_success: false, reason: reason.into(), message: message.into() }
    }
    fn success(reason: &str, message: impl Into<String>) -> Self {
        Self { is_success: true, reason: reason.into(), message: message.into() }
    }
    /// All successes that were asked for are there.
    pub(super) fn completed() -> Self {
        Self::success("CompletionsReached", "Reached expected number of succeeded pods")
    }
    /// The condition that announces it.
    pub(super) fn interim(&self) -> &'static str {
        if self.is_success { "SuccessCriteriaMet" } else { "FailureTarget" }
    }
    /// The condition that seals it.
    pub(super) fn terminal(&self) -> &'static str {
        if self.is_success { "Complete" } else { "Failed" }
    }
    /// The ending that the status announced before.
    pub(super) fn announced(status: &JobStatus) -> Option<Self> {
        let found = |kind| condition(status, kind).filter(|c| c.status == "True");
        let read = |c: &JobCondition, is_success| Self {
            is_success,
            reason: c.reason.clone().unwrap_or_default(),
            message: c.message.clone().unwrap_or_default(),
        };
        let failed = found("FailureTarget").map(|c| read(c, false));
        failed.or_else(|| found("SuccessCriteriaMet").map(|c| read(c, true)))
    }
}

/// Has the job ended for good?
pub(super) fn is_finished(status: &JobStatus) -> bool {
    ["Complete", "Failed"].iter().any(|kind| condition(status, kind).is_some_and(|c| c.status == "True"))
}

fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

/// Sets a condition; says whether that changed something. A False one is only set where there is one.
pub(super) fn set_condition(
    status: &mut JobStatus,
    (kind, value): (&str, &str),
    (reason, message): (&str, &str),
    now: Timestamp,
) -> bool {
    let condition = JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match status.conditions.iter_mut().flatten().find(|c| c.type_ == kind) {
        Some(c) if c.status == value && c.reason == condition.reason && c.message == condition.message => false,
        Some(c) => {
            *c = condition;
            true
        }
        None if value == "False" => false,
        None => {
            status.conditions.get_or_insert_default().push(condition);
            true
        }
    }
}

/// Decides by all that does not depend on making or deleting pods.
pub(super) fn decide(round: &Round<'_>) -> Option<Ending> {
    Ending::announced(&round.status)
        .or_else(|| round.verdicts.fatal(&round.pods).map(|message| Ending::failure("PodFailurePolicy", message)))
        .or_else(|| by_backoff(round))
        .or_else(|| by_deadline(round))
        .or_else(|| by_indexes(round))
        .or_else(|| by_success_policy(round))
}

fn by_backoff(round: &Round<'_>) -> Option<Ending> {
    let limit = round.spec.backoff_limit();
    let exceeded = round.failed > limit || round.spec.restarts_on_failure() && too_many_restarts(round, limit);
    exceeded.then(|| Ending::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit"))
}

/// Where containers restart inside their pods, their restarts are the failures.
fn too_many_restarts(round: &Round<'_>, limit: i32) -> bool {
    let running = round.pods.iter().filter(|p| !p.member.row.phase.is_terminal());
    let restarts: i32 = running.map(|p| p.member.row.restarts + p.job.init_restarts).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// When the job's time is up, if it is limited and runs.
pub(super) fn deadline(round: &Round<'_>) -> Option<Timestamp> {
    let seconds = round.spec.0.active_deadline_seconds.filter(|_| !round.spec.is_suspended())?;
    let start = round.status.start_time.as_ref()?;
    Some(start.0.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX))
}

fn by_deadline(round: &Round<'_>) -> Option<Ending> {
    let is_past = deadline(round).is_some_and(|at| at <= round.now);
    is_past.then(|| Ending::failure("DeadlineExceeded", "Job was active longer than specified deadline"))
}

fn by_indexes(round: &Round<'_>) -> Option<Ending> {
    let failed = round.indexes.failed.as_ref()?.total();
    let at_most = round.spec.0.max_failed_indexes.and_then(|n| usize::try_from(n).ok());
    if at_most.is_some_and(|n| failed > n) {
        let text = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Ending::failure("MaxFailedIndexesExceeded", text));
    }
    let all = failed + round.indexes.succeeded.total() >= round.spec.indexes() as usize;
    (failed > 0 && all).then(|| Ending::failure("FailedIndexes", "Job has failed indexes"))
}

fn by_success_policy(round: &Round<'_>) -> Option<Ending> {
    let policy = round.spec.0.success_policy.as_ref().filter(|_| round.spec.is_indexed())?;
    let rule = met(policy, &round.indexes.succeeded, round.spec.indexes())?;
    Some(Ending::success("SuccessPolicy", format!("Matched rules at index {rule}")))
}

/// The first rule that the succeeded indexes meet.
fn met(policy: &SuccessPolicy, succeeded: &Indexes, completions: u32) -> Option<usize> {
    policy.rules.iter().position(|rule| {
        let wanted = rule.succeeded_indexes.as_ref().map(|text| Indexes::parse_stored(text, completions));
        let count = rule.succeeded_count.and_then(|n| usize::try_from(n).ok());
        match (wanted, count) {
            (Some(wanted), count) => {
                let have = wanted.intersection(succeeded).total();
                have >= count.unwrap_or(wanted.total())
            }
            (None, Some(count)) => succeeded.total() >= count,
            (None, None) => false,
        }
    })
}
