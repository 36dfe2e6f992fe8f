//! Authorisation: RBAC and the Node authoriser, deciders behind one trait.
//!
//! Must never know: HTTP, the store. Reads objects through [`kybern_api::seam::Lister`].

use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::seam::Lister;

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
    fn rules_for(&self, user: &UserInfo, namespace: &str, objects: &dyn Lister) -> serde_json::Value;
}
