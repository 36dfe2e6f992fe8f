//! What a decision leaves behind: the status, and what is to be told.

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use kybern_reconcile::view::World;

/// A status in the making.
pub(super) struct Outcome<'a> {
    world: &'a World<'a>,
    pub(super) status: HorizontalPodAutoscalerStatus,
    /// Warning or not, reason, message.
    pub(super) notes: Vec<(bool, &'static str, String)>,
}

impl<'a> Outcome<'a> {
    /// Begins with what is stored.
    pub(super) fn of(world: &'a World<'a>, stored: &HorizontalPodAutoscaler) -> Self {
        Self { world, status: stored.status.clone().unwrap_or_default(), notes: Vec::new() }
    }
    /// Sets a condition; its time moves only when its status does.
    pub(super) fn set(&mut self, kind: &str, holds: bool, reason: &str, message: String) {
        let status = if holds { "True" } else { "False" };
        let all = self.status.conditions.get_or_insert_default();
        let at = all.iter().position(|c| c.type_ == kind);
        let since = at.filter(|i| all[*i].status == status).and_then(|i| all[i].last_transition_time.clone());
        let condition = HorizontalPodAutoscalerCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or_else(|| self.world.time())),
        };
        match at {
            Some(i) => all[i] = condition,
            None => all.push(condition),
        }
    }
    /// An event, told if the status changes.
    pub(super) fn note(&mut self, warning: bool, reason: &'static str, message: String) {
        self.notes.push((warning, reason, message));
    }
    pub(super) fn current(&mut self, replicas: i32) {
        self.status.current_replicas = Some(replicas);
    }
    pub(super) fn wanted(&mut self, replicas: i32) {
        self.status.desired_replicas = replicas;
    }
    pub(super) fn scaled_to(&mut self, replicas: i32) {
        self.wanted(replicas);
        self.status.last_scale_time = Some(self.world.time());
    }
    pub(super) fn metrics(&mut self, metrics: Vec<MetricStatus>) {
        self.status.current_metrics = (!metrics.is_empty()).then_some(metrics);
    }
}
