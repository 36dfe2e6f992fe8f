//! Which pods a running job makes and which it gives up.

use super::backoff;
use super::pods::Pod;
use super::round::Round;
use super::{template, track};
use crate::members::count;
use crate::template::announce_delete;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Action, Plan, delete};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Pods that one plan makes or deletes at most.
const BURST: usize = 500;

/// Pods to make and to give up, and when to look again.
#[derive(Default)]
pub(super) struct Change {
    create: Vec<Action>,
    /// Finalizers of pods that are given up uncounted: nobody but this controller ends them.
    release: Vec<Action>,
    delete: Vec<Action>,
    ready: i32,
    wake: Option<(Timestamp, Timestamp)>,
}

impl Change {
    pub(super) fn made(&self) -> i32 {
        i32::try_from(self.create.len()).unwrap_or(i32::MAX)
    }
    pub(super) fn given_up(&self) -> i32 {
        i32::try_from(self.delete.len()).unwrap_or(i32::MAX)
    }
    pub(super) fn ready_given_up(&self) -> i32 {
        self.ready
    }
    pub(super) fn into_steps(self, plan: &mut Plan) {
        plan.batch(self.release);
        plan.batch(self.delete);
        plan.batch(self.create);
        if let Some((at, now)) = self.wake {
            plan.at(at, now);
        }
    }
}

/// The job has come to its end: whatever runs goes, and is counted (the accounting releases it).
pub(super) fn end(round: &Round<'_>) -> Change {
    let active: Vec<Pod<'_>> = active(round).collect();
    Change { release: Vec::new(), ..give_up(round, &active) }
}

/// Makes what is missing, or gives up what is too much; never both at once.
pub(super) fn plan(round: &Round<'_>) -> Result<Change, Error> {
    let running: Vec<Pod<'_>> = active(round).collect();
    let wanted = if round.spec.is_suspended() { 0 } else { wanted(round, size(running.len())) };
    let surplus = usize::try_from(size(running.len()) - wanted).unwrap_or(0);
    let victims = victims(round, running.clone(), surplus);
    if !victims.is_empty() {
        return Ok(give_up(round, &victims[..victims.len().min(BURST)]));
    }
    // Where only failed pods are replaced, those that are going keep their place until then.
    let going = if round.spec.only_replaces_failed() { count(&round.pods, |p| p.member.is_terminating()) } else { 0 };
    let missing = usize::try_from(wanted - going - size(running.len())).unwrap_or(0).min(BURST);
    if missing == 0 || round.spec.is_suspended() {
        return Ok(Change::default());
    }
    make(round, missing)
}

fn size(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn active<'a>(round: &Round<'a>) -> impl Iterator<Item = Pod<'a>> {
    round.pods.iter().filter(|p| p.member.is_active()).copied()
}

/// How many pods should run.
fn wanted(round: &Round<'_>, active: i32) -> i32 {
    match round.spec.completions() {
        // Once one has succeeded, those that run are left to finish.
        None if round.succeeded > 0 => active,
        None => round.spec.parallelism(),
        Some(completions) => (completions - round.succeeded).clamp(0, round.spec.parallelism().max(0)),
    }
}

/// Pods without a valid index and all but one of each index; then, up to `surplus`, those that are
/// the least far.
fn victims<'a>(round: &Round<'a>, running: Vec<Pod<'a>>, surplus: usize) -> Vec<Pod<'a>> {
    let (mut victims, mut rest) = (Vec::new(), Vec::new());
    if round.spec.is_indexed() {
        let mut of_index: BTreeMap<u32, Vec<Pod<'a>>> = BTreeMap::new();
        for pod in running {
            match pod.index(&round.spec) {
                Some(index) => of_index.entry(index).or_default().push(pod),
                None => victims.push(pod),
            }
        }
        for mut same in of_index.into_values() {
            same.sort_by_cached_key(rank);
            rest.extend(same.pop());
            victims.extend(same);
        }
    } else {
        rest = running;
    }
    if victims.len() < surplus {
        rest.sort_by_cached_key(rank);
        rest.truncate(surplus - victims.len());
        victims.append(&mut rest);
    }
    victims
}

/// Unassigned, not running, not ready, briefly ready, often restarted and young pods go first.
fn rank(pod: &Pod<'_>) -> impl Ord + use<> {
    let row = pod.member.row;
    let ready_since = if row.ready { row.ready_since } else { 0 };
    let far = (!row.node.is_empty(), row.phase, row.ready, Reverse(ready_since));
    (far, Reverse(row.restarts), Reverse(pod.member.object.head.created), pod.member.object.head.name.clone())
}

fn give_up(round: &Round<'_>, victims: &[Pod<'_>]) -> Change {
    let resource = typed::resource::<k8s_openapi::api::core::v1::Pod>();
    let announce = || Some(announce_delete::<Job>(round.owner));
    Change {
        release: victims.iter().filter(|p| p.is_tracked()).map(|p| track::release(p.member.object)).collect(),
        delete: victims.iter().map(|p| delete(&resource, p.member.object, announce())).collect(),
        ready: count(victims, |p| p.member.row.ready),
        ..Change::default()
    }
}

fn make(round: &Round<'_>, missing: usize) -> Result<Change, Error> {
    let later = |at| Change { wake: Some((at, round.now)), ..Change::default() };
    if round.spec.per_index().is_none()
        && let Some(at) = backoff::of_job(round.spec, &round.pods, round.now)
    {
        return Ok(later(at));
    }
    if !round.spec.is_indexed() {
        let action = template::create(round, None)?;
        return Ok(Change { create: vec![action; missing], ..Change::default() });
    }
    let mut indexes = round.indexes.pending(round.spec, &round.pods, missing);
    let mut wake: Option<Timestamp> = None;
    if round.spec.per_index().is_some() {
        indexes.retain(|i| {
            let at = backoff::of_index(round.indexes.waiting.get(i), round.now);
            wake = [wake, at].into_iter().flatten().min();
            at.is_none()
        });
    }
    let create: Result<Vec<Action>, Error> = indexes.into_iter().map(|i| template::create(round, Some(i))).collect();
    Ok(Change { create: create?, wake: wake.map(|at| (at, round.now)), ..Change::default() })
}
