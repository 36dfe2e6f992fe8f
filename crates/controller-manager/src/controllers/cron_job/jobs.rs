//! The jobs of a cron job: which of them run, how the others ended, which are old enough to go.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use kybern_client::store::Item;
use kybern_reconcile::Error;
use kybern_reconcile::view::{View, decode};
use std::cmp::Reverse;

/// Annotation of a job: the time it was due.
pub(super) const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// The name of the job of a time: the same for every attempt, so that it is made once.
pub(super) fn name(cron: &str, at: Timestamp) -> String {
    format!("{cron}-{}", at.as_second().div_euclid(60))
}

/// A job and its decoded form.
pub(super) struct Child<'a> {
    pub(super) item: &'a Item,
    pub(super) job: Job,
}

/// Every job that a cron job controls.
pub(super) fn children<'a>(view: &'a View, cron: &'a Item) -> Result<Vec<Child<'a>>, Error> {
    let uid = &cron.object.head.uid;
    let owned = view.of::<Job>().owned(uid);
    let controlled = owned.filter(|i| i.object.head.controller().is_some_and(|c| c.uid == *uid));
    controlled.map(|item| Ok(Child { item, job: decode(item)? })).collect()
}

impl Child<'_> {
    pub(super) fn uid(&self) -> &str {
        &self.item.object.head.uid
    }
    pub(super) fn name(&self) -> &str {
        &self.item.object.head.name
    }
    /// The condition that sealed its end.
    pub(super) fn end(&self) -> Option<&'static str> {
        let conditions = self.job.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let is = |kind: &&str| conditions.clone().any(|c| c.type_ == **kind && c.status == "True");
        ["Complete", "Failed"].iter().find(|kind| is(kind)).copied()
    }
    /// The time it was made for, if this controller made it for one.
    pub(super) fn scheduled(&self, cron: &str) -> Option<Timestamp> {
        let at: Timestamp = self.job.metadata.annotations.as_ref()?.get(SCHEDULED)?.parse().ok()?;
        (self.name() == name(cron, at)).then_some(at)
    }
    /// How a status names it.
    pub(super) fn reference(&self) -> ObjectReference {
        kybern_reconcile::plan::reference::<Job>(&self.item.object)
    }
}

/// The finished jobs beyond the cron job's history limits, oldest first.
pub(super) fn outdated<'c, 'a>(cron: &CronJob, children: &'c [Child<'a>]) -> Vec<&'c Child<'a>> {
    let spec = &cron.spec;
    let limits = [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)];
    let mut outdated = Vec::new();
    for (end, limit) in limits {
        let Some(limit) = limit.and_then(|n| usize::try_from(n).ok()) else { continue };
        let mut ended: Vec<&Child<'a>> = children.iter().filter(|c| c.end() == Some(end)).collect();
        ended.sort_by_key(|c| Reverse(c.job.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0)));
        let gone = |c: &&&Child<'a>| c.item.object.head.deleting.is_none();
        outdated.extend(ended.into_iter().skip(limit).collect::<Vec<_>>().iter().rev().filter(gone));
    }
    outdated
}
