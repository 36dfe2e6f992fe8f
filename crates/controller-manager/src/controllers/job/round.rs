//! One look at a job: everything its plan follows from.

use super::ending::{self, Ending};
use super::failure::Verdicts;
use super::indexes::State;
use super::manage::Change;
use super::pods::Pod;
use super::spec::Spec;
use super::{manage, track};
use crate::members::{count, some};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kybern_api::object::Object;
use kybern_client::store::Item;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Note, Plan, reference};
use kybern_reconcile::view::{World, whole_seconds};

/// A job, its pods and its status, which is changed on the way.
pub(super) struct Round<'a> {
    pub(super) now: Timestamp,
    pub(super) owner: &'a Object,
    pub(super) job: &'a Job,
    pub(super) spec: Spec<'a>,
    pub(super) pods: Vec<Pod<'a>>,
    pub(super) verdicts: Verdicts<'a>,
    pub(super) indexes: State<'a>,
    pub(super) status: JobStatus,
    /// Pods (or indexes) that succeeded, counted or not yet.
    pub(super) succeeded: i32,
    /// Pods that failed, counted or not yet; ignored ones left out.
    pub(super) failed: i32,
}

impl<'a> Round<'a> {
    pub(super) fn new(
        world: &World<'_>,
        owner: &'a Object,
        (job, spec): (&'a Job, Spec<'a>),
        owned: Vec<&'a Item>,
    ) -> Result<Self, Error> {
        let pods: Vec<Pod<'a>> = owned.into_iter().filter_map(Pod::of).collect();
        let mut status = job.status.clone().unwrap_or_default();
        status.uncounted_terminated_pods.get_or_insert_default();
        if status.start_time.is_none() && !spec.is_suspended() {
            status.start_time = Some(world.time());
        }
        let verdicts = Verdicts::judge(spec, &pods)?;
        let indexes = State::of(spec, &status, &pods, &verdicts);
        let (succeeded, failed) = totals(spec, &status, &pods, &verdicts, &indexes);
        let now = world.now;
        Ok(Self { now, owner, job, spec, pods, verdicts, indexes, status, succeeded, failed })
    }

    pub(super) fn active(&self) -> i32 {
        count(&self.pods, |p| p.member.is_active())
    }

    /// What to do. The status goes first: nothing is done that it does not know of.
    pub(super) fn plan(mut self, has_failed_before: bool) -> Result<Plan, Error> {
        let mut ending = ending::decide(&self);
        let mut notes = Vec::new();
        let change = match &ending {
            Some(_) => manage::end(&self),
            None => self.go_on(&mut ending, &mut notes)?,
        };
        self.count_running(&change, has_failed_before);
        let done = track::account(&mut self, ending.as_ref());
        if let Some(ending) = &ending {
            self.announce(ending, &change, &mut notes);
        }
        let mut plan = Plan::none();
        let mut updated = self.job.clone();
        updated.status = Some(self.status.clone());
        plan.act(kybern_reconcile::plan::change(self.job, &updated, "status")?);
        notes.into_iter().for_each(|note| plan.note(note));
        plan.batch(done);
        change.into_steps(&mut plan);
        if let Some(at) = ending::deadline(&self).filter(|at| ending.is_none() && *at > self.now) {
            plan.at(at, self.now);
        }
        Ok(plan)
    }

    /// The job has not ended: pods are made or given up, unless that brings it to its end.
    fn go_on(&mut self, ending: &mut Option<Ending>, notes: &mut Vec<Note>) -> Result<Change, Error> {
        let is_going = self.owner.head.deleting.is_some();
        let change = if is_going { Change::default() } else { manage::plan(self)? };
        let active = self.active() + change.made() - change.given_up();
        let is_complete = match self.spec.completions() {
            // Any success will do; then the job waits for the pods that still run.
            None => self.succeeded > 0 && active == 0,
            Some(wanted) => self.succeeded >= wanted && active == 0,
        };
        if is_complete {
            *ending = Some(Ending::completed());
        } else if !is_going {
            self.suspend_or_resume(notes);
        }
        Ok(change)
    }

    fn suspend_or_resume(&mut self, notes: &mut Vec<Note>) {
        let now = whole_seconds(self.now);
        let (value, text) = if self.spec.is_suspended() {
            ("True", ("JobSuspended", "Job suspended"))
        } else {
            ("False", ("JobResumed", "Job resumed"))
        };
        if !ending::set_condition(&mut self.status, ("Suspended", value), text, now) {
            return;
        }
        notes.push(self.note(false, if value == "True" { "Suspended" } else { "Resumed" }, text.1));
        if value == "False" {
            // Time spent suspended does not count against the deadline.
            self.status.start_time = Some(Time(now));
        }
    }

    /// The status speaks of the pods as they will be, unless the last plan came to nothing: then it
    /// speaks of those there are.
    fn count_running(&mut self, change: &Change, has_failed_before: bool) {
        let (made, gone) = if has_failed_before { (0, 0) } else { (change.made(), change.given_up()) };
        let ready = count(&self.pods, |p| p.member.is_active() && p.member.row.ready);
        let ready_gone = if has_failed_before { 0 } else { change.ready_given_up() };
        let terminating = count(&self.pods, |p| p.member.is_terminating());
        self.status.active = some(self.active() + made - gone);
        self.status.ready = Some(ready - ready_gone);
        self.status.terminating = Some(terminating + gone);
    }

    /// Puts the interim condition into the status or, when that is stored and nothing is left to wait
    /// for, the final one.
    fn announce(&mut self, ending: &Ending, change: &Change, notes: &mut Vec<Note>) {
        let now = whole_seconds(self.now);
        let text = (ending.reason.as_str(), ending.message.as_str());
        let stored = self.job.status.as_ref().and_then(Ending::announced).is_some();
        ending::set_condition(&mut self.status, (ending.interim(), "True"), text, now);
        let busy = self.active() > 0 || change.given_up() > 0 || self.pods.iter().any(|p| p.member.is_terminating());
        if !stored || busy || !track::is_settled(self) {
            return;
        }
        ending::set_condition(&mut self.status, (ending.terminal(), "True"), text, now);
        if !ending.is_success {
            notes.push(self.note(true, &ending.reason, &ending.message));
            return;
        }
        self.status.completion_time = Some(Time(now));
        if self.spec.completions().is_some_and(|wanted| self.status.succeeded.unwrap_or(0) > wanted) {
            let text = "Too many succeeded pods running after completion count reached";
            notes.push(self.note(true, "TooManySucceededPods", text));
        }
        notes.push(self.note(false, "Completed", "Job completed"));
    }

    fn note(&self, warning: bool, reason: &str, message: &str) -> Note {
        Note { about: reference::<Job>(self.owner), warning, reason: reason.into(), message: message.into() }
    }
}

/// Successes and failures so far, with those that are not in the status's counters yet.
fn totals(
    spec: Spec<'_>,
    status: &JobStatus,
    pods: &[Pod<'_>],
    verdicts: &Verdicts<'_>,
    indexes: &State<'_>,
) -> (i32, i32) {
    let known = track::Known::of(status);
    let new = |p: &&Pod<'_>| p.is_tracked() && p.is_valid(&spec);
    let succeeded = count(pods.iter().filter(new), |p| p.has_succeeded() && !known.succeeded.contains(p.uid()));
    let failed = count(pods.iter().filter(new), |p| {
        p.has_failed(&spec) && !known.failed.contains(p.uid()) && verdicts.counts(p)
    });
    let size = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let succeeded = if spec.is_indexed() {
        size(indexes.succeeded.total())
    } else {
        status.succeeded.unwrap_or(0) + succeeded + size(known.succeeded.len())
    };
    (succeeded, status.failed.unwrap_or(0) + failed + size(known.failed.len()))
}
