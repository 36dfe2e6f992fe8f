//! Authorisation: RBAC and the Node authoriser, deciders behind one trait.
//!
//! Must never know: HTTP, the store. Reads objects through [`kybern_api::seam::Lister`].
//!
//! Entry points: [`Standard`] (what an API server asks: system:masters, nodes, RBAC),
//! [`Authorizer::review_write`] (may this role or binding be written by this user), [`bootstrap`] (the
//! default roles and bindings), [`aggregate`] (ClusterRole aggregation).
//! Invariants: nothing is allowed that no rule allows; an answer always reflects every role and binding
//! that the lister shows at the moment of the question.

mod aggregate;
mod authorizer;
pub mod bootstrap;
mod escalation;
mod index;
mod node;
mod rules;

pub use aggregate::aggregate;
pub use authorizer::{Authorizer, Decision, MASTERS, Rbac, Standard};
pub use escalation::{RoleWrite, uncovered};
pub use node::NodeAuthorizer;
pub use rules::{Rule, rules_of};
