//! Replacing pods of older templates, node by node.

use super::Turn;
use super::nodes::Spot;
use crate::members::Member;
use kybern_reconcile::Error;
use kybern_reconcile::plan::Plan;

/// The pods of a node that are not being deleted: at most one of the present template, one older.
struct Pair<'p, 'a> {
    new: Option<&'p Member<'a>>,
    old: Option<&'p Member<'a>>,
}

impl<'a> Turn<'a> {
    /// One step of a rolling update.
    pub(super) fn roll(&self) -> Result<Plan, Error> {
        if self.max_surge() == 0 { Ok(self.roll_by_deleting()) } else { self.roll_by_surging() }
    }

    /// None where a node has more pods than a step can reason about.
    fn pair<'p>(&self, spot: &'p Spot<'a>) -> Option<Pair<'p, 'a>> {
        let staying = spot.pods.iter().filter(|m| !m.is_deleting());
        let (new, old): (Vec<_>, Vec<_>) = staying.partition(|m| self.is_updated(m));
        (new.len() <= 1 && old.len() <= 1).then(|| Pair { new: new.first().copied(), old: old.first().copied() })
    }

    /// Nodes that count: those that shall have a pod, and those that have one.
    fn relevant(&self) -> impl Iterator<Item = &Spot<'a>> {
        self.spots.iter().filter(|s| s.should_run || !s.pods.is_empty())
    }

    /// Old pods go as far as availability allows; manage() creates their successors.
    fn roll_by_deleting(&self) -> Plan {
        let (mut unavailable, mut down, mut candidates) = (0_usize, Vec::new(), Vec::new());
        for spot in self.relevant() {
            match self.pair(spot) {
                Some(Pair { new: Some(new), old: None }) if self.is_available(new) => {}
                Some(Pair { new: None, old: Some(old) }) if self.is_available(old) => candidates.push(old),
                // It is down already: replacing it costs nothing, but it counts.
                Some(Pair { new: None, old: Some(old) }) => down.push(old),
                _ => unavailable += 1,
            }
        }
        let limit = usize::try_from(self.max_unavailable()).unwrap_or(0);
        let allowed = limit.saturating_sub(unavailable + down.len());
        let mut plan = Plan::none();
        plan.batch(down.into_iter().chain(candidates.into_iter().take(allowed)).map(|m| self.delete(m)).collect());
        plan
    }

    /// New pods come beside the old ones, as many as the surge allows, and old ones go when the new
    /// pod of their node is available.
    fn roll_by_surging(&self) -> Result<Plan, Error> {
        let (mut surging, mut available) = (0_usize, 0_usize);
        let (mut delete, mut leaving, mut free, mut candidates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for spot in self.relevant() {
            let Some(Pair { new, old }) = self.pair(spot) else {
                surging += 1;
                continue;
            };
            let (new_up, old_up) =
                (new.is_some_and(|m| self.is_available(m)), old.is_some_and(|m| self.is_available(m)));
            available += usize::from(new_up || old_up);
            match (new, old) {
                (_, None) => {}
                (None, Some(old)) if !spot.should_run => leaving.push((old_up, old)),
                (None, Some(_)) if old_up => candidates.push(spot),
                (None, Some(_)) => free.push(spot),
                (Some(_), Some(old)) if !old_up || new_up => delete.push(old),
                (Some(_), Some(_)) => surging += 1,
            }
        }
        // Where no pod shall be any more, old ones stay until enough others are available.
        let desired = usize::try_from(self.desired()).unwrap_or(0);
        let spare = available.saturating_sub(desired);
        let (up, down): (Vec<_>, Vec<_>) = leaving.into_iter().partition(|(up, _)| *up);
        delete.extend(down.into_iter().chain(up.into_iter().take(spare)).map(|(_, m)| m));
        let room = usize::try_from(self.max_surge()).unwrap_or(0).saturating_sub(surging);
        let nodes = free.into_iter().chain(candidates.into_iter().take(room));
        let mut plan = Plan::none();
        plan.batch(nodes.map(|s| self.create(&s.node, 0)).collect::<Result<_, _>>()?);
        plan.batch(delete.into_iter().map(|m| self.delete(m)).collect());
        Ok(plan)
    }
}
