//! What a DaemonSet reports.

use super::Turn;
use super::nodes::Spot;
use crate::members::{Member, count, some};
use k8s_openapi::api::apps::v1::DaemonSetStatus;

impl Turn<'_> {
    pub(super) fn status(&self) -> DaemonSetStatus {
        let first = |s: &Spot<'_>, test: &dyn Fn(&Member<'_>) -> bool| s.should_run && s.pods.first().is_some_and(test);
        let nodes = |test: &dyn Fn(&Member<'_>) -> bool| count(&self.spots, |s| first(s, test));
        let desired = self.desired();
        let available = nodes(&|m| self.is_available(m));
        let old = self.set.status.clone().unwrap_or_default();
        DaemonSetStatus {
            observed_generation: Some(self.owner.head.generation),
            desired_number_scheduled: desired,
            current_number_scheduled: nodes(&|_| true),
            number_misscheduled: count(&self.spots, |s| s.exists && !s.should_run && !s.pods.is_empty()),
            number_ready: nodes(&|m| m.row.ready),
            number_available: some(available),
            number_unavailable: some(desired.saturating_sub(available)),
            updated_number_scheduled: some(nodes(&|m| self.is_updated(m))),
            collision_count: old.collision_count,
            conditions: old.conditions,
        }
    }
}
