//! The accounting of ended pods: each is counted once, whatever is lost or repeated on the way.
//!
//! Three steps, each in a plan of its own that begins from what is stored: the pod's uid goes into
//! `status.uncountedTerminatedPods`; the pod's finalizer is removed; when the pod is seen without it,
//! the uid is taken out and the counter raised, in one write. (Of an indexed job's successes the index
//! itself is what is counted, so that they need no uid.)

use super::ending::Ending;
use super::pods::{Pod, TRACKING};
use super::round::Round;
use crate::members::some;
use k8s_openapi::api::batch::v1::{JobStatus, UncountedTerminatedPods};
use kybern_api::indexes::Indexes;
use kybern_api::object::Object;
use kybern_client::transport::MERGE_PATCH;
use kybern_client::typed;
use kybern_reconcile::plan::{Action, Ref};
use serde_json::json;
use std::collections::HashSet;

/// Pods that one plan accounts for at most: the status must not grow without bound.
const AT_ONCE: usize = 500;

/// The uids that the status holds as not counted yet.
#[derive(Default)]
pub(super) struct Known<'a> {
    pub(super) succeeded: HashSet<&'a str>,
    pub(super) failed: HashSet<&'a str>,
}

impl<'a> Known<'a> {
    pub(super) fn of(status: &'a JobStatus) -> Self {
        let Some(uncounted) = &status.uncounted_terminated_pods else { return Self::default() };
        let set = |list: &'a Option<Vec<String>>| list.iter().flatten().map(String::as_str).collect();
        Self { succeeded: set(&uncounted.succeeded), failed: set(&uncounted.failed) }
    }
}

/// Is every ended pod counted, and let go?
pub(super) fn is_settled(round: &Round<'_>) -> bool {
    let known = Known::of(&round.status);
    known.succeeded.is_empty() && known.failed.is_empty() && !round.pods.iter().any(Pod::is_tracked)
}

/// Moves the accounting in the status on, and returns the removals of the finalizers of all pods that
/// the status knows then.
pub(super) fn account(round: &mut Round<'_>, ending: Option<&Ending>) -> Vec<Action> {
    let mut status = std::mem::take(&mut round.status);
    count_released(&mut status, &round.pods);
    let mut entries = Entries::of(&status);
    let mut released = Vec::new();
    let mut pods: Vec<&Pod<'_>> = round.pods.iter().filter(|p| p.is_tracked()).collect();
    pods.sort_by_key(|p| p.job.index);
    for pod in pods.into_iter().filter(|p| may_go(round, p, ending)) {
        if entries.len() >= AT_ONCE {
            break;
        }
        entries.enter(round, pod, ending);
        released.push(release(pod.member.object));
    }
    entries.store(&mut status, round);
    round.status = status;
    released
}

/// Raises the counters by the pods that are seen without their finalizer (or no more).
fn count_released(status: &mut JobStatus, pods: &[Pod<'_>]) {
    let tracked: HashSet<&str> = pods.iter().filter(|p| p.is_tracked()).map(Pod::uid).collect();
    let Some(uncounted) = &mut status.uncounted_terminated_pods else { return };
    for (list, counter) in
        [(&mut uncounted.succeeded, &mut status.succeeded), (&mut uncounted.failed, &mut status.failed)]
    {
        let before = list.as_ref().map_or(0, Vec::len);
        if let Some(list) = list {
            list.retain(|uid| tracked.contains(uid.as_str()));
        }
        let gone = before - list.as_ref().map_or(0, Vec::len);
        *counter = some(counter.unwrap_or(0).saturating_add(i32::try_from(gone).unwrap_or(i32::MAX)));
    }
}

/// May the pod's finalizer be removed now?
fn may_go(round: &Round<'_>, pod: &Pod<'_>, ending: Option<&Ending>) -> bool {
    if round.owner.head.deleting.is_some() || ending.is_some() || pod.has_succeeded() {
        return true;
    }
    pod.has_failed(&round.spec) && !round.indexes.keeps(pod, round.spec)
}

/// What goes into the status.
struct Entries {
    succeeded: Vec<String>,
    failed: Vec<String>,
    indexes: Vec<u32>,
}

impl Entries {
    fn of(status: &JobStatus) -> Self {
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        Self {
            succeeded: uncounted.succeeded.unwrap_or_default(),
            failed: uncounted.failed.unwrap_or_default(),
            indexes: Vec::new(),
        }
    }
    fn len(&self) -> usize {
        self.succeeded.len() + self.failed.len() + self.indexes.len()
    }

    /// Enters a pod that has ended. One that is entered already is not entered again, whatever is
    /// said of it now: a pod once counted as failed stays so.
    fn enter(&mut self, round: &Round<'_>, pod: &Pod<'_>, ending: Option<&Ending>) {
        let uid = pod.uid();
        let has = |list: &[String]| list.iter().any(|u| u == uid);
        if has(&self.failed) || has(&self.succeeded) || !pod.is_valid(&round.spec) {
            return;
        }
        if pod.has_succeeded() {
            match pod.index(&round.spec) {
                Some(index) if round.spec.is_indexed() => {
                    if !round.indexes.counted.has(index) {
                        self.indexes.push(index);
                    }
                }
                _ => self.succeeded.push(uid.to_owned()),
            }
            return;
        }
        // When a job fails, whatever still runs has failed with it.
        let ends_badly = ending.is_some_and(|e| !e.is_success);
        if (pod.has_failed(&round.spec) || ends_badly) && round.verdicts.counts(pod) {
            self.failed.push(uid.to_owned());
        }
    }

    fn store(self, status: &mut JobStatus, round: &Round<'_>) {
        let list = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
        let uncounted = UncountedTerminatedPods { succeeded: list(self.succeeded), failed: list(self.failed) };
        status.uncounted_terminated_pods = Some(uncounted);
        if !round.spec.is_indexed() {
            return;
        }
        let done = round.indexes.counted.union(&self.indexes.into_iter().collect::<Indexes>());
        status.succeeded = some(i32::try_from(done.total()).unwrap_or(i32::MAX));
        status.completed_indexes = Some(done.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = round.indexes.failed.as_ref().map(Indexes::to_string);
    }
}

/// Removes the finalizer of a pod, if the pod is still as it was seen.
pub(super) fn release(pod: &Object) -> Action {
    let rest: Vec<&str> = pod.head.finalizers.iter().map(|f| f.as_str()).filter(|f| *f != TRACKING).collect();
    Action::Patch {
        to: Ref::to(&typed::resource::<k8s_openapi::api::core::v1::Pod>(), pod),
        subresource: "",
        media_type: MERGE_PATCH,
        patch: json!({"metadata": {"finalizers": rest, "resourceVersion": pod.revision.to_string()}}),
    }
}
