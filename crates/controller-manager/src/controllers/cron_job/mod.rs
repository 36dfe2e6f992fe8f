//! Makes a Job whenever a schedule says so.

mod jobs;
mod times;

use jiff::{SignedDuration, Timestamp};
use jobs::{Child, SCHEDULED, children};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kybern_api::object::Object;
use kybern_client::typed;
use kybern_client::write::{DeleteOptions, Propagation};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Announce, Note, Plan, Ref, change, controller_reference, create, reference};
use kybern_reconcile::view::{World, decode};
use std::sync::Arc;
use times::{Due, Times, Unusable};

/// Looking a moment after a time makes sure that it has passed.
const MARGIN: SignedDuration = SignedDuration::from_millis(100);

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "cronjob-controller",
        watches: vec![Watch::primary::<CronJob>(), Watch::owned::<Job, CronJob>()],
        writes: vec![
            Access::to::<CronJob>(&["patch", "update"]),
            Access::sub::<CronJob>("status", &["patch", "update"]),
            Access::sub::<CronJob>("finalizers", &["update"]),
            Access::to::<Job>(&["create", "delete", "patch", "update"]),
        ],
        seeds: Vec::new(),
        workers: 5,
        plan: Arc::new(plan),
    }
}

/// One look at a cron job.
struct Round<'a> {
    now: Timestamp,
    owner: &'a Object,
    cron: &'a CronJob,
    children: Vec<Child<'a>>,
    status: CronJobStatus,
    notes: Vec<Note>,
    changes: Vec<Action>,
    /// The time whose job is made now.
    started: Option<Timestamp>,
    wake: Option<Timestamp>,
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<CronJob>(&key.namespace, &key.name) else { return Ok(Plan::none()) };
    let cron: CronJob = decode(item)?;
    let mut round = Round {
        now: world.now,
        owner: &item.object,
        cron: &cron,
        children: children(world.view, item)?,
        status: cron.status.clone().unwrap_or_default(),
        notes: Vec::new(),
        changes: Vec::new(),
        started: None,
        wake: None,
    };
    round.follow_jobs();
    if item.object.head.deleting.is_none() {
        if cron.spec.suspend != Some(true) {
            round.keep_time(world)?;
        }
        round.clean_history();
    }
    round.finish(world.failure.is_some())
}

impl<'a> Round<'a> {
    fn note(&mut self, warning: bool, reason: &str, message: String) {
        let about = reference::<CronJob>(self.owner);
        self.notes.push(Note { about, warning, reason: reason.into(), message });
    }

    /// Brings the list of active jobs and the times of the status up to what the jobs say.
    fn follow_jobs(&mut self) {
        let children = std::mem::take(&mut self.children);
        for child in &children {
            self.follow(child);
        }
        let gone = |uid: &Option<String>| !children.iter().any(|c| Some(c.uid()) == uid.as_deref());
        let active = std::mem::take(&mut self.status.active).unwrap_or_default();
        let (lost, active): (Vec<_>, Vec<_>) = active.into_iter().partition(|r| gone(&r.uid));
        for job in lost {
            self.note(false, "MissingJob", format!("Active job went missing: {}", job.name.unwrap_or_default()));
        }
        self.set_active(active);
        self.children = children;
    }

    fn set_active(&mut self, active: Vec<k8s_openapi::api::core::v1::ObjectReference>) {
        self.status.active = (!active.is_empty()).then_some(active);
    }

    fn is_active(&self, child: &Child<'_>) -> bool {
        self.status.active.iter().flatten().any(|r| r.uid.as_deref() == Some(child.uid()))
    }

    fn follow(&mut self, child: &Child<'_>) {
        let scheduled = child.scheduled(&self.owner.head.name);
        if let Some(at) = scheduled.filter(|at| self.last_schedule().is_none_or(|last| last < *at)) {
            // Whatever became of it, the job of that time has been made.
            self.status.last_schedule_time = Some(Time(at));
        }
        match (self.is_active(child), child.end()) {
            (true, Some(end)) => {
                let active = self.status.active.take().unwrap_or_default();
                self.set_active(active.into_iter().filter(|r| r.uid.as_deref() != Some(child.uid())).collect());
                let text = format!("Saw completed job: {}, condition: {end}", child.name());
                self.note(false, "SawCompletedJob", text);
            }
            (false, None) if scheduled.is_some() && child.item.object.head.deleting.is_none() => {
                self.status.active.get_or_insert_default().push(child.reference());
            }
            (false, None) if child.item.object.head.deleting.is_none() => {
                let text = format!("Saw a job that the controller did not create or forgot: {}", child.name());
                self.note(true, "UnexpectedJob", text);
            }
            _ => {}
        }
        let done = child.job.status.as_ref().and_then(|s| s.completion_time.as_ref());
        if let Some(done) = done.filter(|_| child.end() == Some("Complete"))
            && self.status.last_successful_time.as_ref().is_none_or(|last| last.0 < done.0)
        {
            self.status.last_successful_time = Some(done.clone());
        }
    }

    fn last_schedule(&self) -> Option<Timestamp> {
        self.status.last_schedule_time.as_ref().map(|t| t.0)
    }

    /// Starts the job that is due, and says when to look again.
    fn keep_time(&mut self, world: &World<'_>) -> Result<(), Error> {
        let mut followed = self.cron.clone();
        followed.status = Some(self.status.clone());
        let times = match Times::of(&followed) {
            Ok(times) => times,
            Err(Unusable(reason, text)) => {
                self.note(true, reason, text);
                return Ok(());
            }
        };
        match times.due(self.now) {
            Err(why) => {
                let schedule = &self.cron.spec.schedule;
                self.note(true, "InvalidSchedule", format!("invalid schedule: {schedule} : {why}"));
                return Ok(());
            }
            Ok(None) => {}
            Ok(Some(due)) => self.start(world, &times, &due)?,
        }
        self.wake = times.next(self.now);
        Ok(())
    }

    fn start(&mut self, world: &World<'_>, times: &Times, due: &Due) -> Result<(), Error> {
        if due.many_missed {
            self.note(
                true,
                "TooManyMissedTimes",
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew".into(),
            );
        }
        if times.is_too_late(due.at, self.now) {
            let shown = due.at.strftime("%a, %d %b %Y %H:%M:%S +0000");
            self.note(true, "MissSchedule", format!("Missed scheduled time to start a job: {shown}"));
            return Ok(());
        }
        let name = jobs::name(&self.owner.head.name, due.at);
        if self.last_schedule() == Some(due.at) || world.view.get::<Job>(&self.owner.head.namespace, &name).is_some() {
            return Ok(());
        }
        match self.cron.spec.concurrency_policy.as_deref() {
            Some("Forbid") if self.status.active.is_some() => {
                let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.note(false, "JobAlreadyActive", text.into());
                return Ok(());
            }
            Some("Replace") => {
                for job in self.status.active.take().unwrap_or_default() {
                    let (name, uid) = (job.name.unwrap_or_default(), job.uid.unwrap_or_default());
                    self.delete_job(&name, uid);
                }
            }
            _ => {}
        }
        self.changes.push(create(&self.job(name, times.shown(due.at)), Some(self.announce_create()))?);
        self.started = Some(due.at);
        Ok(())
    }

    fn job(&self, name: String, scheduled: String) -> Job {
        let template = self.cron.spec.job_template.clone();
        let meta = template.metadata.unwrap_or_default();
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.insert(SCHEDULED.to_owned(), scheduled);
        let metadata = ObjectMeta {
            name: Some(name),
            namespace: Some(self.owner.head.namespace.to_string()),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference::<CronJob>(self.owner)]),
            ..ObjectMeta::default()
        };
        Job { metadata, spec: template.spec, status: None }
    }

    fn announce_create(&self) -> Announce {
        Announce {
            about: reference::<CronJob>(self.owner),
            done: ("SuccessfulCreate", "Created job {}".into()),
            failed: ("FailedCreate", "Error creating job: ".into()),
        }
    }

    fn delete_job(&mut self, name: &str, uid: String) {
        let options =
            DeleteOptions { uid: Some(uid), propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        let announce = Announce {
            about: reference::<CronJob>(self.owner),
            done: ("SuccessfulDelete", "Deleted job {}".into()),
            failed: ("FailedDelete", "Deleted job: ".into()),
        };
        let to =
            Ref { name: name.into(), namespace: self.owner.head.namespace.clone(), resource: typed::resource::<Job>() };
        self.changes.push(Action::Delete { to, options, announce: Some(announce) });
    }

    fn clean_history(&mut self) {
        let old: Vec<(String, String)> = jobs::outdated(self.cron, &self.children)
            .into_iter()
            .map(|c| (c.name().to_owned(), c.uid().to_owned()))
            .collect();
        old.into_iter().for_each(|(name, uid)| self.delete_job(&name, uid));
    }

    /// Jobs are changed before the status speaks of them; but after a failure the status goes first,
    /// lest a job that cannot be made keeps it from being true of the others.
    fn finish(mut self, has_failed_before: bool) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        if !has_failed_before {
            self.changes.drain(..).for_each(|action| plan.act(action));
            self.status.last_schedule_time = self.started.map(Time).or(self.status.last_schedule_time);
        }
        let mut updated = self.cron.clone();
        updated.status = Some(self.status);
        plan.act(change(self.cron, &updated, "status")?);
        self.changes.into_iter().for_each(|action| plan.act(action));
        self.notes.into_iter().for_each(|note| plan.note(note));
        if let Some(at) = self.wake.and_then(|at| at.checked_add(MARGIN).ok()) {
            plan.at(at, self.now);
        }
        Ok(plan)
    }
}
