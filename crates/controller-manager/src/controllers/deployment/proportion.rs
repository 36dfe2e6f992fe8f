//! Resizing in the middle of a rollout: every active set keeps its share.

use super::sets::Set;
use super::{Rollout, annotations};
use kybern_reconcile::Error;
use kybern_reconcile::plan::Plan;
use std::cmp::Reverse;

impl Rollout<'_> {
    /// Brings the sets to the Deployment's (new) size without going on with a rollout.
    pub(super) fn resize(&self) -> Result<Plan, Error> {
        let active: Vec<&Set<'_>> = self.sets.all().filter(|s| s.replicas() > 0).collect();
        if active.len() <= 1 {
            let only = active.first().copied().or(self.sets.new.as_ref()).or(self.sets.old.last());
            return only.map_or(Ok(Plan::none()), |set| self.scale(set, self.desired()));
        }
        if self.is_saturated() {
            return self.scale_all(self.sets.old.iter().filter(|s| s.replicas() > 0).map(|s| (s, 0)));
        }
        if self.rolling().is_none() {
            return Ok(Plan::none());
        }
        self.scale_all(self.shares(active).into_iter())
    }

    /// Does the new set alone already provide everything?
    fn is_saturated(&self) -> bool {
        let desired = self.desired();
        self.sets.new.as_ref().is_some_and(|new| {
            new.replicas() == desired
                && new.annotated(annotations::DESIRED) == Some(desired)
                && new.available() == desired
        })
    }

    /// The new size of each active set: its share of what is added or taken, the largest set bearing
    /// what rounding leaves.
    fn shares<'s>(&self, mut active: Vec<&'s Set<'s>>) -> Vec<(&'s Set<'s>, i32)> {
        let allowed = if self.desired() > 0 { self.limit() } else { 0 };
        let change = allowed.saturating_sub(active.iter().map(|s| s.replicas()).fold(0, i32::saturating_add));
        // When growing, newer sets round first; when shrinking, older ones.
        let created = |s: &Set<'_>| if change > 0 { -s.item.object.head.created } else { s.item.object.head.created };
        active.sort_by_key(|s| (Reverse(s.replicas()), created(s)));
        let mut left = change;
        let mut sizes: Vec<(&Set<'_>, i32)> = Vec::with_capacity(active.len());
        for set in active {
            let share = self.share(set);
            let share = if change > 0 { share.clamp(0, left) } else { share.clamp(left, 0) };
            left -= share;
            sizes.push((set, set.replicas().saturating_add(share)));
        }
        if let Some((_, size)) = sizes.first_mut() {
            *size = size.saturating_add(left).max(0);
        }
        sizes
    }

    /// By how much a set would grow to keep its share of the whole, rounded to the nearest.
    fn share(&self, set: &Set<'_>) -> i32 {
        if self.desired() == 0 {
            return -set.replicas();
        }
        let whole_then = set.annotated(annotations::MAX).filter(|n| *n > 0);
        let whole_then =
            whole_then.unwrap_or_else(|| self.deployment.status.as_ref().and_then(|s| s.replicas).unwrap_or(1).max(1));
        let whole_now = self.limit();
        let exact = f64::from(set.replicas()) * f64::from(whole_now) / f64::from(whole_then);
        #[expect(clippy::cast_possible_truncation, reason = "a pod count, far below the limits of i32")]
        let size = exact.round() as i32;
        size - set.replicas()
    }
}
