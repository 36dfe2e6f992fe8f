//! Which indexes of an indexed job are done, have failed for good, or wait for another try.

use super::failure::{Verdict, Verdicts};
use super::pods::Pod;
use super::spec::Spec;
use k8s_openapi::api::batch::v1::JobStatus;
use kybern_api::indexes::Indexes;
use std::collections::HashMap;

/// The indexes of a job.
#[derive(Default)]
pub(super) struct State<'a> {
    /// Succeeded, as the status knows it.
    pub(super) counted: Indexes,
    /// Succeeded, with pods that the status does not know yet.
    pub(super) succeeded: Indexes,
    /// Not to be tried again; None where failures are not counted per index.
    pub(super) failed: Option<Indexes>,
    /// The last failed pod of each index that may be tried again. It keeps its finalizer until its
    /// successor exists, for it holds the number of the index's failures.
    pub(super) waiting: HashMap<u32, Pod<'a>>,
}

impl<'a> State<'a> {
    pub(super) fn of(spec: Spec<'_>, status: &JobStatus, pods: &[Pod<'a>], verdicts: &Verdicts<'_>) -> Self {
        if !spec.is_indexed() {
            return Self::default();
        }
        let stored = |text: &Option<String>| Indexes::parse_stored(text.as_deref().unwrap_or(""), spec.indexes());
        let tracked = || pods.iter().filter(|p| p.is_tracked());
        let counted = stored(&status.completed_indexes);
        let new: Indexes = tracked().filter(|p| p.has_succeeded()).filter_map(|p| p.index(&spec)).collect();
        let succeeded = counted.union(&new);
        let Some(limit) = spec.per_index() else { return Self { counted, succeeded, ..Self::default() } };
        let is_final = |p: &&Pod<'_>| {
            p.has_failed(&spec)
                && match verdicts.of(p) {
                    Verdict::FailsIndex => true,
                    Verdict::Ignored => false,
                    _ => p.job.failures.0 >= limit,
                }
        };
        let new: Indexes = tracked().filter(is_final).filter_map(|p| p.index(&spec)).collect();
        let failed = stored(&status.failed_indexes).union(&new);
        let waiting = waiting(spec, pods, &succeeded.union(&failed));
        Self { counted, succeeded, failed: Some(failed), waiting }
    }

    /// Is this pod kept until its index has another one?
    pub(super) fn keeps(&self, pod: &Pod<'_>, spec: Spec<'_>) -> bool {
        pod.index(&spec).and_then(|i| self.waiting.get(&i)).is_some_and(|w| w.uid() == pod.uid())
    }

    /// The first `count` indexes that need a pod.
    pub(super) fn pending(&self, spec: Spec<'_>, pods: &[Pod<'_>], count: usize) -> Vec<u32> {
        let occupies = |p: &&Pod<'_>| p.member.is_active() || spec.only_replaces_failed() && p.member.is_terminating();
        let occupied: Indexes = pods.iter().filter(occupies).filter_map(|p| p.index(&spec)).collect();
        let settled = self.succeeded.union(&occupied).union(self.failed.as_ref().unwrap_or(&Indexes::default()));
        settled.first_missing(count, spec.indexes())
    }
}

fn waiting<'a>(spec: Spec<'_>, pods: &[Pod<'a>], settled: &Indexes) -> HashMap<u32, Pod<'a>> {
    let active: Indexes = pods.iter().filter(|p| p.member.is_active()).filter_map(|p| p.index(&spec)).collect();
    let mut waiting: HashMap<u32, Pod<'a>> = HashMap::new();
    for pod in pods.iter().filter(|p| p.is_tracked() && p.has_failed(&spec)) {
        let Some(index) = pod.index(&spec).filter(|i| !settled.has(*i) && !active.has(*i)) else { continue };
        let later = |p: &Pod<'_>| (p.job.failures_of_index(), p.job.finished);
        if waiting.get(&index).is_none_or(|known| later(known) <= later(pod)) {
            waiting.insert(index, *pod);
        }
    }
    waiting
}
