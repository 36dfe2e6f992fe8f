//! The default roles and bindings of a cluster, as trees ready to be created or reconciled.
//!
//! The rows stand in `cluster` (ClusterRoles), `namespaced` (Roles) and `bindings`; the roles of the
//! controllers are made from what the controllers declare that they need.

mod bindings;
mod cluster;
mod namespaced;
mod reconcile;

pub use reconcile::reconciled;

use crate::rules::Rule;
use serde_json::{Map, Value, json};

const GROUP_VERSION: &str = "rbac.authorization.k8s.io/v1";
const CONTROLLER_PREFIX: &str = "system:controller:";

/// One row of rules: API groups, resources and verbs, each a list separated by spaces; `core` is the core
/// group. `("paths", PATHS, VERBS)` is a rule about URL paths.
type Row = (&'static str, &'static str, &'static str);

/// The first word of a [`Row`] about paths.
const PATHS: &str = "paths";

/// What a controller needs, declared where the controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerRole {
    /// The controller's name; its service account in kube-system has the same.
    pub name: String,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// All default objects of the RBAC group, roles before bindings.
pub fn objects(controllers: &[ControllerRole]) -> Vec<Value> {
    let mut all = cluster::roles();
    all.extend(controllers.iter().map(controller_role));
    all.extend(namespaced::roles());
    all.extend(bindings::cluster());
    all.extend(controllers.iter().map(controller_binding));
    all.extend(bindings::namespaced());
    all
}

/// What every node may ask for; the Node authoriser narrows it to the node's own.
pub(crate) fn node_rules() -> Vec<Rule> {
    rules(cluster::NODE)
}

fn rules(rows: &[Row]) -> Vec<Rule> {
    rows.iter().map(rule).collect()
}

/// A resource may name its objects: `configmaps=cluster-info`.
fn rule((groups, resources, verbs): &Row) -> Rule {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if *groups == PATHS {
        return Rule { verbs: words(verbs), non_resource_urls: words(resources), ..Rule::default() };
    }
    let mut found = Rule {
        verbs: words(verbs),
        api_groups: words(groups).into_iter().map(|g| if g == "core" { String::new() } else { g }).collect(),
        ..Rule::default()
    };
    for word in resources.split_whitespace() {
        let (resource, name) = word.split_once('=').unwrap_or((word, ""));
        if !found.resources.iter().any(|known| known == resource) {
            found.resources.push(resource.to_owned());
        }
        if !name.is_empty() {
            found.resource_names.push(name.to_owned());
        }
    }
    found
}

fn metadata(namespace: &str, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { reconcile::AUTOUPDATE: "true" },
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn cluster_role(name: &str, rules: &[Rule]) -> Value {
    json!({ "apiVersion": GROUP_VERSION, "kind": "ClusterRole", "metadata": metadata("", name), "rules": rules })
}

fn controller_role(controller: &ControllerRole) -> Value {
    cluster_role(&format!("{CONTROLLER_PREFIX}{}", controller.name), &controller.rules)
}

fn controller_binding(controller: &ControllerRole) -> Value {
    let name = format!("{CONTROLLER_PREFIX}{}", controller.name);
    binding("", &name, "ClusterRole", &name, &[service_account("kube-system", &controller.name)])
}

/// A binding; cluster-wide where `namespace` is empty.
fn binding(namespace: &str, name: &str, role_kind: &str, role: &str, subjects: &[Value]) -> Value {
    json!({
        "apiVersion": GROUP_VERSION,
        "kind": if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" },
        "metadata": metadata(namespace, name),
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role },
        "subjects": subjects,
    })
}

fn service_account(namespace: &str, name: &str) -> Value {
    json!({ "kind": "ServiceAccount", "namespace": namespace, "name": name })
}

fn group(name: &str) -> Value {
    json!({ "kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name })
}

fn user(name: &str) -> Value {
    json!({ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name })
}

/// Adds labels to an object made by [`cluster_role`].
fn label(mut object: Value, labels: &[(&str, &str)]) -> Value {
    if let Some(found) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        let added: Map<String, Value> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        found.extend(added);
    }
    object
}
