//! The new replica set: made, found again, and numbered.

use super::status::Progress;
use super::{Rollout, annotations};
use crate::hash::short_hash;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kybern_client::transport::MERGE_PATCH;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Action, Announce, Plan, Ref, change, controller_reference, create, reference};
use serde_json::json;
use std::collections::BTreeMap;

impl Rollout<'_> {
    /// Makes the set of the present template.
    pub(super) fn make_set(&self) -> Result<Plan, Error> {
        let name = format!("{}-{}", self.item.object.head.name, template_hash(&self.deployment)?);
        if self.world.view.get::<ReplicaSet>(&self.item.object.head.namespace, &name).is_some() {
            // Not ours, or of another template with the same hash: count the collision and hash anew.
            return self.count_collision();
        }
        let size = self.new_set_size();
        let mut plan = Plan::none();
        if let Some(why) = self.world.failure {
            plan.extend(self.report(&Progress::Refused(name.clone(), why.to_owned()))?);
        }
        plan.act(create(&self.new_set(&name, size)?, Some(self.announce(&name)))?);
        if size > 0 {
            plan.note(self.scaled(&name, 0, size));
        }
        if self.world.failure.is_none() {
            plan.extend(self.report(&Progress::Created(name))?);
        }
        plan.extend(self.number_as(self.sets.max_old_revision() + 1));
        Ok(plan)
    }

    /// Brings the new set's annotations up to date.
    pub(super) fn refresh_set(&self) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        let Some(new) = &self.sets.new else { return Ok(plan) };
        let mut updated = new.object.clone();
        annotations::update_set(&mut updated, &self.deployment, self.sets.max_old_revision() + 1);
        if let Some(spec) = updated.spec.as_mut() {
            spec.min_ready_seconds = self.deployment.spec.as_ref().and_then(|s| s.min_ready_seconds);
        }
        plan.act(change(&new.object, &updated, "")?);
        Ok(plan)
    }

    /// The Deployment shows its newest set's revision.
    pub(super) fn number(&self) -> Plan {
        let Some(new) = &self.sets.new else { return Plan::none() };
        self.number_as(new.revision().max(self.sets.max_old_revision() + 1))
    }

    /// Written last and without a guard: it repeats what the sets say, and the status write before it
    /// has moved the Deployment's own revision on.
    fn number_as(&self, revision: i64) -> Plan {
        let mut plan = Plan::none();
        if annotations::revision(self.deployment.metadata.annotations.as_ref()) != revision {
            let head = &self.item.object.head;
            plan.act(Action::Patch {
                to: Ref::typed::<Deployment>(head.namespace.clone(), head.name.clone()),
                subresource: "",
                media_type: MERGE_PATCH,
                patch: json!({"metadata": {"annotations": {annotations::REVISION: revision.to_string()}}}),
            });
        }
        plan
    }

    fn count_collision(&self) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        let mut counted = self.deployment.clone();
        let status = counted.status.get_or_insert_with(DeploymentStatus::default);
        status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
        plan.act(change(&self.deployment, &counted, "status")?);
        Ok(plan)
    }

    fn new_set(&self, name: &str, replicas: i32) -> Result<ReplicaSet, Error> {
        let hash = template_hash(&self.deployment)?;
        let spec = self.deployment.spec.clone().unwrap_or_default();
        let mut template = spec.template;
        let labels = template.metadata.get_or_insert_with(ObjectMeta::default).labels.get_or_insert_with(BTreeMap::new);
        labels.insert(annotations::HASH_LABEL.into(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector;
        selector.match_labels.get_or_insert_with(BTreeMap::new).insert(annotations::HASH_LABEL.into(), hash);
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.item.object.head.namespace.to_string()),
                labels: Some(labels),
                owner_references: Some(vec![controller_reference::<Deployment>(&self.item.object)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        annotations::update_set(&mut set, &self.deployment, self.sets.max_old_revision() + 1);
        annotations::remember_size(&mut set, self.desired(), self.limit());
        Ok(set)
    }

    fn announce(&self, name: &str) -> Announce {
        Announce {
            about: reference::<Deployment>(&self.item.object),
            // Its first scaling is what is told.
            done: ("", String::new()),
            failed: ("ReplicaSetCreateError", format!("Failed to create new replica set \"{name}\": ")),
        }
    }
}

/// A short name for the present template and collision count.
fn template_hash(deployment: &Deployment) -> Result<String, Error> {
    let template = serde_json::to_value(deployment.spec.as_ref().map(|s| &s.template)).map_err(Error::Encode)?;
    Ok(short_hash(&template, deployment.status.as_ref().and_then(|s| s.collision_count)))
}
