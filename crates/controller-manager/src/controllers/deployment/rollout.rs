//! How many pods each set gets while the template changes.

use super::Rollout;
use super::sets::Set;
use crate::rows::PodRow;
use crate::shares::{Round, share};
use k8s_openapi::api::apps::v1::RollingUpdateDeployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kybern_reconcile::Error;
use kybern_reconcile::plan::Plan;

impl Rollout<'_> {
    /// spec.replicas
    pub(super) fn desired(&self) -> i32 {
        self.deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    /// Pods allowed beyond the size; percentages round up.
    pub(super) fn max_surge(&self) -> i32 {
        self.limits().map_or(0, |(surge, _)| surge)
    }
    /// The most pods there may be during a rollout.
    pub(super) fn limit(&self) -> i32 {
        self.desired().saturating_add(self.max_surge())
    }
    /// Pods that may be missing; percentages round down. 1 if both limits come out as 0.
    pub(super) fn max_unavailable(&self) -> i32 {
        self.limits().map_or(0, |(_, unavailable)| unavailable.min(self.desired()))
    }
    fn limits(&self) -> Option<(i32, i32)> {
        let rolling = self.rolling()?;
        let quarter = || IntOrString::String("25%".into());
        let surge = share(&rolling.max_surge.unwrap_or_else(quarter), self.desired(), Round::Up);
        let unavailable = share(&rolling.max_unavailable.unwrap_or_else(quarter), self.desired(), Round::Down);
        Some(if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) })
    }
    /// The rolling-update parameters; None for Recreate.
    pub(super) fn rolling(&self) -> Option<RollingUpdateDeployment> {
        let strategy = self.deployment.spec.as_ref()?.strategy.clone().unwrap_or_default();
        (strategy.type_.as_deref() != Some("Recreate")).then(|| strategy.rolling_update.unwrap_or_default())
    }

    /// The size of the new set if it is to grow now.
    pub(super) fn new_set_size(&self) -> i32 {
        if self.rolling().is_none() {
            return self.desired();
        }
        let size = self.sets.new.as_ref().map_or(0, Set::replicas);
        let room = self.limit().saturating_sub(self.sets.sum(Set::replicas));
        if room <= 0 { size } else { size + room.min(self.desired() - size).max(0) }
    }

    /// One step from the old sets to the new one.
    pub(super) fn roll(&self) -> Result<Plan, Error> {
        if self.rolling().is_none() { self.recreate() } else { self.rolling_step() }
    }

    /// Recreate: first nothing of the old, then all of the new.
    fn recreate(&self) -> Result<Plan, Error> {
        if self.old_is_active() {
            return self.scale_all(self.sets.old.iter().filter(|s| s.replicas() > 0).map(|s| (s, 0)));
        }
        match &self.sets.new {
            Some(new) if !self.old_pods_exist() && new.replicas() != self.desired() => self.scale(new, self.desired()),
            _ => Ok(Plan::none()),
        }
    }

    /// Must a Recreate rollout wait before there is a new set at all?
    pub(super) fn old_comes_first(&self) -> bool {
        self.rolling().is_none() && (self.old_is_active() || self.old_pods_exist())
    }

    fn old_is_active(&self) -> bool {
        self.sets.old.iter().any(|s| s.replicas() > 0)
    }

    /// Does a pod of an old set still run (or end)?
    fn old_pods_exist(&self) -> bool {
        let pods = self.world.view.of::<Pod>();
        self.sets.old.iter().any(|set| {
            pods.owned(&set.item.object.head.uid).any(|p| p.row::<PodRow>().is_none_or(|r| !r.phase.is_terminal()))
        })
    }

    /// RollingUpdate: grow the new set as the surge allows, else shrink old ones as availability does.
    fn rolling_step(&self) -> Result<Plan, Error> {
        let Some(new) = &self.sets.new else { return Ok(Plan::none()) };
        let size = if new.replicas() > self.desired() { self.desired() } else { self.new_set_size() };
        if size != new.replicas() {
            return self.scale(new, size);
        }
        self.scale_all(self.shrink_old(new).into_iter())
    }

    /// New sizes of old sets that may shrink now.
    fn shrink_old(&self, new: &Set<'_>) -> Vec<(&Set<'_>, i32)> {
        let mut sizes: Vec<(&Set<'_>, i32)> = self.sets.old.iter().map(|s| (s, s.replicas())).collect();
        let min_available = self.desired() - self.max_unavailable();
        let new_unavailable = new.replicas() - new.staying_available();
        let mut spare = self.sets.sum(Set::replicas).saturating_sub(min_available).saturating_sub(new_unavailable);
        if spare <= 0 {
            return Vec::new();
        }
        // Pods of old sets that are not available go first: they help nobody.
        for (set, size) in &mut sizes {
            let broken = (*size - set.available()).clamp(0, spare);
            *size -= broken;
            spare -= broken;
        }
        let mut surplus = self.sets.sum(Set::staying_available).saturating_sub(min_available).max(0);
        for (_, size) in &mut sizes {
            let give = (*size).min(surplus);
            *size -= give;
            surplus -= give;
        }
        sizes.retain(|(set, size)| *size != set.replicas());
        sizes
    }

    pub(super) fn scale_all<'s>(&self, sizes: impl Iterator<Item = (&'s Set<'s>, i32)>) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        for (set, size) in sizes {
            plan.extend(self.scale(set, size)?);
        }
        Ok(plan)
    }
}
