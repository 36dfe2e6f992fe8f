//! The pods of a job, as its accounting sees them.

use super::spec::Spec;
use crate::members::Member;
use crate::rows::{JobPod, Phase};
use kybern_client::store::Item;

/// Keeps a pod until the job's status has counted it.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// A pod of a job.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub(super) member: Member<'a>,
    pub(super) job: &'a JobPod,
    pub(super) item: &'a Item,
}

impl<'a> Pod<'a> {
    /// None for a pod whose row says it belongs to no job.
    pub(super) fn of(item: &'a Item) -> Option<Self> {
        let member = Member::of(item)?;
        Some(Self { member, job: member.row.job.as_deref()?, item })
    }
    pub(super) fn uid(&self) -> &'a str {
        &self.member.object.head.uid
    }
    /// Has it not been counted to the end yet?
    pub(super) fn is_tracked(&self) -> bool {
        self.member.object.head.finalizers.iter().any(|f| f == TRACKING)
    }
    pub(super) fn has_succeeded(&self) -> bool {
        self.member.row.phase == Phase::Succeeded
    }
    /// Does it count as failed? Unless pods are only replaced when they have failed, one that is
    /// being deleted does: nobody may ever report its end.
    pub(super) fn has_failed(&self, spec: &Spec<'_>) -> bool {
        match self.member.row.phase {
            Phase::Failed => true,
            Phase::Succeeded => false,
            _ => self.member.is_deleting() && !spec.only_replaces_failed(),
        }
    }
    /// Its index, if the job has that many.
    pub(super) fn index(&self, spec: &Spec<'_>) -> Option<u32> {
        self.job.index.filter(|i| *i < spec.indexes())
    }
    /// Does it count at all? A pod of an indexed job without a valid index does not.
    pub(super) fn is_valid(&self, spec: &Spec<'_>) -> bool {
        !spec.is_indexed() || self.index(spec).is_some()
    }
}
