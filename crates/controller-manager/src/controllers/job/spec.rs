//! What a job asks for, read from its typed spec with the API's defaults.

use k8s_openapi::api::batch::v1::{Job, JobSpec};

/// The controller of jobs that name it, or none.
const MANAGER: &str = "kubernetes.io/job-controller";

/// A job's spec.
#[derive(Clone, Copy)]
pub(super) struct Spec<'a>(pub(super) &'a JobSpec);

impl<'a> Spec<'a> {
    pub(super) fn of(job: &'a Job) -> Option<Self> {
        job.spec.as_ref().map(Self)
    }
    /// Is it this controller's business?
    pub(super) fn is_managed_here(self) -> bool {
        self.0.managed_by.as_deref().is_none_or(|m| m == MANAGER)
    }
    /// Is its mode one that this controller knows?
    pub(super) fn has_known_mode(self) -> bool {
        self.0.completion_mode.as_deref().is_none_or(|m| matches!(m, "NonIndexed" | "Indexed"))
    }
    pub(super) fn is_indexed(self) -> bool {
        self.0.completion_mode.as_deref() == Some("Indexed")
    }
    pub(super) fn is_suspended(self) -> bool {
        self.0.suspend == Some(true)
    }
    /// Successes wanted; None: any one.
    pub(super) fn completions(self) -> Option<i32> {
        self.0.completions
    }
    /// How many indexes there are.
    pub(super) fn indexes(self) -> u32 {
        u32::try_from(self.0.completions.unwrap_or(0)).unwrap_or(0)
    }
    pub(super) fn parallelism(self) -> i32 {
        self.0.parallelism.unwrap_or(1)
    }
    pub(super) fn backoff_limit(self) -> i32 {
        self.0.backoff_limit.unwrap_or(6)
    }
    /// Failures that each index may have, where they are counted per index.
    pub(super) fn per_index(self) -> Option<i32> {
        self.0.backoff_limit_per_index.filter(|_| self.is_indexed())
    }
    /// Do pods that are being deleted keep their place until they have failed?
    pub(super) fn only_replaces_failed(self) -> bool {
        self.0.pod_replacement_policy.as_deref() == Some("Failed") || self.0.pod_failure_policy.is_some()
    }
    /// Do failing containers restart inside their pods?
    pub(super) fn restarts_on_failure(self) -> bool {
        self.0.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("OnFailure")
    }
}
