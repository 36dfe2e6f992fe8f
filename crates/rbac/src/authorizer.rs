//! The seam of authorisation, RBAC behind it, and the union that an API server asks.

use crate::escalation::{self, RoleWrite};
use crate::index::Index;
use crate::node::NodeAuthorizer;
use crate::rules::Rule;
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::seam::Lister;
use serde_json::{Value, json};
use std::ops::ControlFlow;

/// The group that may do everything, whatever the roles say: the way back in when they are broken.
pub const MASTERS: &str = "system:masters";

/// A decider's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No, whatever others say.
    Deny(String),
    /// Not this decider's business, and why.
    NoOpinion(String),
}

/// Decides whether a request may go on. Synchronous: everything it needs is in memory.
pub trait Authorizer: Send + Sync {
    /// The decision for one request.
    fn authorize(&self, attributes: &Attributes, objects: &dyn Lister) -> Decision;
    /// What a user may do in a namespace, as `SelfSubjectRulesReview` status
    /// (`{"resourceRules":[],"nonResourceRules":[],"incomplete":false}`).
    fn rules_for(&self, user: &UserInfo, namespace: &str, objects: &dyn Lister) -> Value;
    /// May this object be written by this user, as far as it grants rights? Asked on every create and
    /// update, after admission; only roles and bindings are judged.
    ///
    /// # Errors
    /// The text of the 403.
    fn review_write(&self, _write: &RoleWrite<'_>, _objects: &dyn Lister) -> Result<(), String> {
        Ok(())
    }
}

/// Roles and bindings.
#[derive(Debug, Default)]
pub struct Rbac {
    index: Index,
}

impl Rbac {
    /// Every rule that `user` holds in `namespace` (empty: cluster-wide).
    pub fn rules(&self, user: &UserInfo, namespace: &str, objects: &dyn Lister) -> Vec<Rule> {
        let mut held = Vec::new();
        let _: ControlFlow<()> = self.index.visit(user, namespace, objects, |grant| {
            held.extend(grant.rules.iter().cloned());
            ControlFlow::Continue(())
        });
        held
    }

    /// The grant that allows the request, put into words.
    fn allowed_by(&self, attributes: &Attributes, objects: &dyn Lister) -> Option<String> {
        let found = self.index.visit(&attributes.user, &attributes.namespace, objects, |grant| {
            if grant.rules.iter().any(|rule| rule.covers(attributes)) {
                ControlFlow::Break(grant.explain())
            } else {
                ControlFlow::Continue(())
            }
        });
        found.break_value()
    }
}

/// What an API server asks: [`MASTERS`], then the Node authoriser for nodes, then RBAC.
#[derive(Debug, Default)]
pub struct Standard {
    node: NodeAuthorizer,
    rbac: Rbac,
}

impl Standard {
    /// With empty caches.
    pub fn new() -> Self {
        Self::default()
    }
    /// The RBAC part alone.
    pub fn rbac(&self) -> &Rbac {
        &self.rbac
    }

    /// Every rule that `user` holds in `namespace`, as far as rules can say it, and whether that is all.
    pub(crate) fn held(&self, user: &UserInfo, namespace: &str, objects: &dyn Lister) -> (Vec<Rule>, bool) {
        let mut rules = Vec::new();
        if user.is_in(MASTERS) {
            rules.extend(escalation::everything());
        }
        rules.extend(self.rbac.rules(user, namespace, objects));
        (rules, user.node_name().is_none())
    }
}

impl Authorizer for Standard {
    fn authorize(&self, attributes: &Attributes, objects: &dyn Lister) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow(format!("group {MASTERS}"));
        }
        let reason = match self.node.authorize(attributes, objects) {
            Decision::NoOpinion(reason) => reason,
            decided => return decided,
        };
        match self.rbac.allowed_by(attributes, objects) {
            Some(why) => Decision::Allow(why),
            // What was asked is known to whoever asked; only a reason beyond it is worth telling.
            None => Decision::NoOpinion(reason),
        }
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str, objects: &dyn Lister) -> Value {
        let (rules, complete) = self.held(user, namespace, objects);
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        for rule in rules {
            if !rule.resources.is_empty() {
                resources.push(json!({
                    "verbs": rule.verbs, "apiGroups": rule.api_groups,
                    "resources": rule.resources, "resourceNames": rule.resource_names,
                }));
            }
            if !rule.non_resource_urls.is_empty() {
                paths.push(json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }));
            }
        }
        let mut status = json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": !complete });
        if !complete {
            status["evaluationError"] = "a node's rights depend on its pods and cannot be listed".into();
        }
        status
    }

    fn review_write(&self, write: &RoleWrite<'_>, objects: &dyn Lister) -> Result<(), String> {
        escalation::Review { authorizer: self, write, objects }.decide()
    }
}
