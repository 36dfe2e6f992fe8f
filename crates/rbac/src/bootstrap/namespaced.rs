//! The default Roles as rows.

use super::{GROUP_VERSION, Row, metadata, rules};
use serde_json::{Value, json};

/// Namespace, name, rules.
const ROLES: &[(&str, &str, &[Row])] = &[
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &[("core", "configmaps=extension-apiserver-authentication", "get list watch")],
    ),
    ("kube-system", "system:controller:bootstrap-signer", &[("core", "secrets", "get list watch")]),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[("core", "secrets", "delete get list watch"), ("core events.k8s.io", "events", "create patch update")],
    ),
    ("kube-system", "system:controller:cloud-provider", &[("core", "configmaps", "create get list update watch")]),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &[("core", "configmaps", "watch"), ("core", "configmaps=kube-controller-manager", "get update")],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &[("core", "configmaps", "watch"), ("core", "configmaps=kube-scheduler", "get update")],
    ),
    // What nodes are told while CAs are replaced.
    ("kube-system", "kybern:certificates", &[("core", "configmaps=kybern-certificates", "get list watch")]),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[
            ("core", "configmaps", "get list watch"),
            ("core", "configmaps=cluster-info", "update"),
            ("core events.k8s.io", "events", "create patch update"),
        ],
    ),
];

pub(super) fn roles() -> Vec<Value> {
    ROLES
        .iter()
        .map(|(namespace, name, rows)| {
            json!({
                "apiVersion": GROUP_VERSION,
                "kind": "Role",
                "metadata": metadata(namespace, name),
                "rules": rules(rows),
            })
        })
        .collect()
}
