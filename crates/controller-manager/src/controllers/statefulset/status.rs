//! What a StatefulSet reports.

use super::{Turn, identity};
use crate::members::{Member, count, some};
use k8s_openapi::api::apps::v1::StatefulSetStatus;

impl Turn<'_> {
    pub(super) fn status(&self) -> StatefulSetStatus {
        let pods = || self.pods.values();
        let at = |name: &str| count(pods(), |m| !m.is_deleting() && m.label(identity::REVISION_LABEL) == name);
        let available = |m: &Member<'_>| m.is_running_and_ready() && m.is_available(self.min_ready(), self.world.now);
        let old = self.set.status.clone().unwrap_or_default();
        let mut status = StatefulSetStatus {
            observed_generation: Some(self.owner.head.generation),
            replicas: count(pods(), |_| true),
            ready_replicas: some(count(pods(), |m| m.is_running_and_ready())),
            available_replicas: Some(count(pods(), |m| available(m))),
            current_replicas: some(at(&self.current.name)),
            updated_replicas: some(at(&self.update.name)),
            current_revision: Some(self.current.name.clone()),
            update_revision: Some(self.update.name.clone()),
            collision_count: Some(old.collision_count.unwrap_or(0)),
            conditions: old.conditions,
        };
        if self.is_rolling() && self.is_rolled_out(&status) {
            status.current_replicas = status.updated_replicas;
            status.current_revision.clone_from(&status.update_revision);
        }
        status
    }

    /// Is every pod of the present template, and ready?
    fn is_rolled_out(&self, status: &StatefulSetStatus) -> bool {
        let wanted = self.replicas();
        let all = |n: Option<i32>| n.unwrap_or(0) == wanted;
        all(status.updated_replicas) && all(status.ready_replicas) && status.replicas == wanted
    }

    /// Pods that have (and will keep) the current revision.
    pub(super) fn at_current(&self) -> i64 {
        let current = |m: &&Member<'_>| !m.is_deleting() && m.label(identity::REVISION_LABEL) == self.current.name;
        count(self.pods.values(), current).into()
    }
}
