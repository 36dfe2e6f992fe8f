//! Who asks for what: the facts that authentication yields and authorisation and admission judge.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An authenticated identity (`authentication.k8s.io/v1` UserInfo).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserInfo {
    /// User name, for example `system:node:n1`.
    #[serde(rename = "username", default)]
    pub name: String,
    /// Unique id; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Group names; `system:authenticated` is added by the authenticator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Further facts by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// Is the user in `group`?
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
    /// The node's name, when this is a node's identity (`system:node:NAME` in group `system:nodes`).
    pub fn node_name(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|_| self.is_in("system:nodes"))
    }
    /// An identity of the system itself, for in-process components.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
            ..Self::default()
        }
    }
}

/// One request as the authoriser sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Who asks.
    pub user: UserInfo,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the
    /// lower-cased HTTP method for a path request.
    pub verb: String,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name; empty for a path request.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Object name, or empty.
    pub name: String,
    /// The URL path of a non-resource request; empty for a resource request.
    pub path: String,
    /// The field selector of a list, watch or deletecollection request as sent, or empty.
    pub field_selector: String,
    /// The label selector likewise.
    pub label_selector: String,
}

impl Attributes {
    /// Is it about a resource (and not about a path)?
    pub fn is_resource(&self) -> bool {
        self.path.is_empty()
    }
}
