//! Which pods of a StatefulSet come and go.
//!
//! In order, every pod waits until all before it are there and available, and the last goes first
//! once all that stay are well: the first pod that has to be waited for ends the plan. In parallel
//! nobody waits. Loops run over the pods there are, not over the ordinals there may be.

use super::claims::Readiness;
use super::{Turn, Version, identity};
use crate::members::Member;
use crate::rows::Phase;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Action, Announce, Note, Plan, create, delete, reference};

/// Pods created by one plan at most.
const BURST: usize = 500;

/// Does the plan go on after a pod?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    On,
    Wait,
}

impl<'a> Turn<'a> {
    /// The next steps towards the pods that shall be.
    pub(super) fn move_on(&self) -> Result<Plan, Error> {
        if self.is_ordered() { self.in_order() } else { self.in_parallel() }
    }

    fn in_order(&self) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        for ordinal in self.range() {
            let next = match self.pods.get(&ordinal) {
                None => {
                    plan.extend(self.create(&[ordinal])?);
                    Next::Wait
                }
                Some(pod) => self.tend(ordinal, pod, &mut plan)?,
            };
            if next == Next::Wait {
                return Ok(plan);
            }
        }
        plan.extend(self.hand_over_claims());
        // All that stay are available, so the first that is not is the lowest of those that go.
        let first_unavailable = self.condemned().rev().find(|(_, m)| self.is_unavailable(m)).map(|(o, _)| o);
        if let Some((ordinal, pod)) = self.condemned().next() {
            let held_up = self.is_unavailable(pod) && first_unavailable != Some(ordinal);
            if !pod.is_deleting() && !held_up {
                plan.act(self.delete(ordinal, pod));
            }
            return Ok(plan);
        }
        plan.extend(self.update());
        Ok(plan)
    }

    fn in_parallel(&self) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        for (ordinal, pod) in self.kept() {
            self.tend(ordinal, pod, &mut plan)?;
        }
        let missing: Vec<i64> = self.range().filter(|o| !self.pods.contains_key(o)).take(BURST).collect();
        plan.extend(self.create(&missing)?);
        plan.extend(self.hand_over_claims());
        let going = self.condemned().filter(|(_, m)| !m.is_deleting());
        plan.batch(going.map(|(ordinal, pod)| self.delete(ordinal, pod)).collect());
        plan.extend(self.update());
        Ok(plan)
    }

    /// Looks after a pod that shall be there; says whether those after it have to wait for it.
    fn tend(&self, ordinal: i64, pod: &Member<'_>, plan: &mut Plan) -> Result<Next, Error> {
        if pod.row.phase.is_terminal() {
            // However it ended: its successor follows once it is gone.
            if !pod.is_deleting() {
                plan.act(self.delete(ordinal, pod));
            }
            return Ok(Next::Wait);
        }
        if pod.row.phase == Phase::Pending && !pod.is_deleting() {
            // A claim on its way out is not in the way of a pod that is there.
            if let Readiness::After(missing) = self.claims().before(ordinal)? {
                plan.batch(missing);
            }
        }
        if !pod.is_deleting() {
            plan.act(identity::repair(pod.object, &self.owner.head.name, ordinal));
            plan.batch(self.claims().hand_over(pod.object, ordinal, true));
        }
        Ok(if self.is_unavailable(pod) { Next::Wait } else { Next::On })
    }

    /// Makes the claims and the pods of these ordinals.
    fn create(&self, ordinals: &[i64]) -> Result<Plan, Error> {
        let (mut plan, mut claims, mut pods) = (Plan::none(), Vec::new(), Vec::new());
        for ordinal in ordinals {
            let name = identity::pod_name(&self.owner.head.name, *ordinal);
            if self.world.view.get::<Pod>(&self.owner.head.namespace, &name).is_some() {
                plan.note(self.cannot_create(*ordinal, &format!("pods \"{name}\" already exists")));
                continue;
            }
            match self.claims().before(*ordinal)? {
                Readiness::Blocked(why) => plan.note(self.cannot_create(*ordinal, &why)),
                Readiness::After(missing) => {
                    let version = self.version(*ordinal);
                    let template = version.template.clone();
                    let pod = identity::pod(self.owner, self.set, *ordinal, &version.name, template);
                    pods.push(create(&pod, Some(self.announce("create", *ordinal)))?);
                    claims.extend(missing);
                }
            }
        }
        plan.batch(claims);
        plan.batch(pods);
        Ok(plan)
    }

    /// The revision at which the pod of an ordinal is made.
    fn version(&self, ordinal: i64) -> &Version {
        let kept = match self.rolling() {
            Some(_) => self.partition(),
            None if self.is_rolling() => self.at_current(),
            None => 0,
        };
        if ordinal < self.start() + kept { &self.current } else { &self.update }
    }

    /// Pods outside the range, the highest ordinal first.
    fn condemned(&self) -> impl DoubleEndedIterator<Item = (i64, &Member<'a>)> {
        let range = self.range();
        self.pods.iter().rev().map(|(o, m)| (*o, m)).filter(move |(o, _)| !range.contains(o))
    }

    fn hand_over_claims(&self) -> Plan {
        let mut plan = Plan::none();
        for (ordinal, pod) in self.condemned() {
            plan.batch(self.claims().hand_over(pod.object, ordinal, false));
        }
        plan
    }

    pub(super) fn delete(&self, ordinal: i64, pod: &Member<'_>) -> Action {
        delete(&typed::resource::<Pod>(), pod.object, Some(self.announce("delete", ordinal)))
    }

    fn announce(&self, verb: &str, ordinal: i64) -> Announce {
        let text = self.deed(verb, ordinal);
        let (done, failed) =
            if verb == "create" { ("SuccessfulCreate", "FailedCreate") } else { ("SuccessfulDelete", "FailedDelete") };
        Announce {
            about: reference::<StatefulSet>(self.owner),
            done: (done, format!("{text} successful")),
            failed: (failed, format!("{text} failed error: ")),
        }
    }

    fn cannot_create(&self, ordinal: i64, why: &str) -> Note {
        Note {
            about: reference::<StatefulSet>(self.owner),
            warning: true,
            reason: "FailedCreate".into(),
            message: format!("{} failed error: {why}", self.deed("create", ordinal)),
        }
    }

    fn deed(&self, verb: &str, ordinal: i64) -> String {
        let set = &self.owner.head.name;
        format!("{verb} Pod {} in StatefulSet {set}", identity::pod_name(set, ordinal))
    }
}
