//! Which pods of a StatefulSet are replaced by pods of the present template.

use super::{Turn, identity};
use crate::members::{Member, count};
use crate::shares::{Round, share};
use kybern_reconcile::plan::Plan;

impl Turn<'_> {
    /// Deletes pods of older templates, the highest ordinal first, as far as availability allows.
    pub(super) fn update(&self) -> Plan {
        let mut plan = Plan::none();
        if !self.is_rolling() {
            return plan;
        }
        let (old, budget) = (self.outdated(), self.budget());
        // Who is down already costs nothing; a broken template would else hold its own repair up.
        let (down, up): (Vec<_>, Vec<_>) = old.into_iter().partition(|(_, m)| self.is_unavailable(m));
        let going = down.into_iter().chain(up.into_iter().take(budget));
        plan.batch(going.map(|(ordinal, pod)| self.delete(ordinal, pod)).collect());
        plan
    }

    /// Pods at or above the partition that are not of the present template, the highest first.
    fn outdated(&self) -> Vec<(i64, &Member<'_>)> {
        let from = self.start().saturating_add(self.partition());
        let old = |m: &Member<'_>| m.label(identity::REVISION_LABEL) != self.update.name && !m.is_deleting();
        self.kept().rev().filter(|(ordinal, m)| *ordinal >= from && old(m)).collect()
    }

    /// How many more pods may become unavailable.
    fn budget(&self) -> usize {
        let allowed = self.rolling().and_then(|r| r.max_unavailable.as_ref());
        let allowed = allowed.map_or(1, |v| share(v, self.replicas(), Round::Down)).max(1);
        let available = count(self.kept(), |(_, m)| !self.is_unavailable(m));
        let unavailable = self.replicas().saturating_sub(available);
        usize::try_from(allowed.saturating_sub(unavailable)).unwrap_or(0)
    }
}
