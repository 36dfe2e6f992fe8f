//! Which pods of a DaemonSet are created and deleted, whatever their template.
//!
//! A pod that failed is replaced, at first at once, then after a wait that doubles each time: a node
//! that refuses the pod would else be asked without end.

use super::nodes::Spot;
use super::{Turn, pod};
use crate::members::Member;
use crate::rows::Phase;
use crate::template::announce_create;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Action, Note, Plan, create, later, reference};
use std::time::Duration;

/// Pods created or deleted by one plan at most.
const BURST: usize = 250;
/// The longest wait before a failed pod is replaced.
const MAX_WAIT: Duration = Duration::from_secs(15 * 60);
/// A pod that lived this long has not failed "in a row" with the one before.
const FORGIVEN: i64 = 2 * 15 * 60;

/// What one node needs.
#[derive(Default)]
struct Needs<'a> {
    create: bool,
    /// Failures in a row before the pod to be created.
    failures: u32,
    delete: Vec<Member<'a>>,
    notes: Vec<Note>,
    look_again: Option<Timestamp>,
}

impl<'a> Turn<'a> {
    /// The creations and deletions that bring every node to what it shall have.
    pub(super) fn manage(&self) -> Result<Plan, Error> {
        let (mut plan, mut creates, mut deletes) = (Plan::none(), Vec::new(), Vec::new());
        for spot in &self.spots {
            let needs = self.needs(spot)?;
            if needs.create && creates.len() < BURST {
                creates.push(self.create(&spot.node, needs.failures)?);
            }
            let room = BURST.saturating_sub(deletes.len());
            deletes.extend(needs.delete.iter().take(room).map(|m| self.delete(m)));
            needs.notes.into_iter().for_each(|note| plan.note(note));
            if let Some(at) = needs.look_again {
                plan.at(at, self.world.now);
            }
        }
        plan.batch(deletes);
        plan.batch(creates);
        Ok(plan)
    }

    pub(super) fn create(&self, node: &str, failures: u32) -> Result<Action, Error> {
        let pod = pod::pod(self.owner, self.template, self.hash, node, failures);
        create(&pod, Some(announce_create::<DaemonSet>(self.owner)))
    }

    fn needs(&self, spot: &Spot<'a>) -> Result<Needs<'a>, Error> {
        let mut needs = Needs::default();
        if !spot.exists {
            // Pods that wait for a node that is gone; those that were on it are the pod collector's.
            needs.delete = spot.pods.iter().copied().filter(|m| m.row.node.is_empty() && !m.is_deleting()).collect();
        } else if spot.should_run && spot.pods.is_empty() {
            needs.create = true;
        } else if spot.should_continue {
            self.settle(spot, &mut needs)?;
        } else {
            needs.delete = spot.pods.iter().copied().filter(|m| !m.is_deleting()).collect();
        }
        Ok(needs)
    }

    /// A node that may keep its pod: ended pods go, and all but the right ones.
    fn settle(&self, spot: &Spot<'a>, needs: &mut Needs<'a>) -> Result<(), Error> {
        let mut running = Vec::new();
        for member in spot.pods.iter().filter(|m| !m.is_deleting()) {
            match member.row.phase {
                Phase::Failed => self.replace_failed(spot, member, needs)?,
                Phase::Succeeded => {
                    needs.notes.push(self.found("succeeded", "delete", spot, member));
                    needs.delete.push(*member);
                }
                _ => running.push(*member),
            }
        }
        if self.max_surge() == 0 {
            needs.delete.extend(running.into_iter().skip(1));
        } else {
            needs.delete.extend(self.superfluous(&running));
        }
        // A successor would be one too many while another pod of the node is left.
        needs.create = needs.create && spot.should_run && needs.delete.len() == spot.pods.len();
        Ok(())
    }

    fn replace_failed(&self, spot: &Spot<'a>, member: &Member<'a>, needs: &mut Needs<'a>) -> Result<(), Error> {
        let now = self.world.now;
        let lived = now.as_second().saturating_sub(member.object.head.created);
        let failures = if lived > FORGIVEN { 0 } else { pod::failures(member)? };
        let created = Timestamp::from_second(member.object.head.created).unwrap_or(now);
        let due = later(created, wait(failures));
        if due > now {
            needs.look_again = Some(due);
            return Ok(());
        }
        needs.notes.push(self.found("failed", "kill", spot, member));
        needs.delete.push(*member);
        needs.create = true;
        needs.failures = failures.saturating_add(1);
        Ok(())
    }

    fn found(&self, ended: &str, deed: &str, spot: &Spot<'_>, member: &Member<'_>) -> Note {
        let failed = ended == "failed";
        Note {
            about: reference::<DaemonSet>(self.owner),
            warning: failed,
            reason: if failed { "FailedDaemonPod" } else { "SucceededDaemonPod" }.into(),
            message: format!(
                "Found {ended} daemon pod {} on node {}, will try to {deed} it",
                member.object.head.key(),
                spot.node
            ),
        }
    }

    /// With a surge a node may have two pods: an old one that is ready, and a new one that is not
    /// available yet. Of several old ones (the template changed again) one that serves is kept, else
    /// the first of `running`.
    fn superfluous(&self, running: &[Member<'a>]) -> Vec<Member<'a>> {
        let (new, mut old): (Vec<Member<'a>>, Vec<Member<'a>>) = running.iter().partition(|m| self.is_updated(m));
        old.sort_by_key(|m| !self.is_available(m));
        let mut going: Vec<Member<'a>> = new.iter().skip(1).chain(old.iter().skip(1)).copied().collect();
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!old.row.ready || self.is_available(new))
        {
            going.push(*old);
        }
        going
    }
}

/// How long a pod has to be there before it is replaced, after so many failures before it.
fn wait(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => Duration::from_secs(1_u64.checked_shl(n - 1).unwrap_or(u64::MAX)).min(MAX_WAIT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_limit() {
        let waits: Vec<u64> = [0, 1, 2, 3, 10, 11, 200].map(|n| wait(n).as_secs()).into();
        assert_eq!(waits, [0, 1, 2, 4, 512, 900, 900]);
    }
}
