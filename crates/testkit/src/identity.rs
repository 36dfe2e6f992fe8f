//! Authentication and authorisation for tests.

use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::seam::Lister;
use kybern_authn::{Authenticator, Credentials, Outcome};
use kybern_rbac::{Authorizer, Decision};
use serde_json::{Value, json};

/// Takes a bearer token as a user's name; `admin` is in `system:masters`, `system:node:NAME` in
/// `system:nodes`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByHeader;

impl Authenticator for ByHeader {
    fn authenticate(&self, credentials: &Credentials<'_>, _objects: &dyn Lister) -> Outcome {
        let Some(name) = credentials.bearer else { return Outcome::NoOpinion };
        let mut groups = vec!["system:authenticated".to_owned()];
        if name == "admin" {
            groups.push("system:masters".to_owned());
        }
        if name.starts_with("system:node:") {
            groups.push("system:nodes".to_owned());
        }
        Outcome::Known(UserInfo { name: name.to_owned(), groups, ..UserInfo::default() })
    }
}

/// Allows everything to everybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _attributes: &Attributes, _objects: &dyn Lister) -> Decision {
        Decision::Allow(String::new())
    }
    fn rules_for(&self, _user: &UserInfo, _namespace: &str, _objects: &dyn Lister) -> Value {
        let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        json!({"resourceRules": all, "nonResourceRules": [], "incomplete": false})
    }
}
