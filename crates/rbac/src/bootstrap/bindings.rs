//! The default bindings as rows.

use super::{binding, group, service_account, user};
use kybern_api::certificates::EXPIRED_NODES;
use serde_json::Value;

#[derive(Debug, Clone, Copy)]
enum Who {
    Group(&'static str),
    User(&'static str),
    /// A service account in kube-system.
    Account(&'static str),
}
use Who::{Account, Group, User};

/// Joining machines: agents, and servers that run an agent too.
const JOINING: &[Who] = &[Group("system:bootstrappers:kybern:agents"), Group("system:bootstrappers:kybern:servers")];

/// Name of the binding, ClusterRole, subjects.
const CLUSTER: &[(&str, &str, &[Who])] = &[
    ("cluster-admin", "cluster-admin", &[Group("system:masters")]),
    ("system:monitoring", "system:monitoring", &[Group("system:monitoring")]),
    ("system:discovery", "system:discovery", &[Group("system:authenticated")]),
    ("system:basic-user", "system:basic-user", &[Group("system:authenticated")]),
    (
        "system:public-info-viewer",
        "system:public-info-viewer",
        &[Group("system:authenticated"), Group("system:unauthenticated")],
    ),
    (
        "system:service-account-issuer-discovery",
        "system:service-account-issuer-discovery",
        &[Group("system:serviceaccounts")],
    ),
    ("system:kube-controller-manager", "system:kube-controller-manager", &[User("system:kube-controller-manager")]),
    ("system:kube-scheduler", "system:kube-scheduler", &[User("system:kube-scheduler")]),
    ("system:volume-scheduler", "system:volume-scheduler", &[User("system:kube-scheduler")]),
    ("system:kube-dns", "system:kube-dns", &[Account("kube-dns")]),
    ("system:node-proxier", "system:node-proxier", &[User("system:kube-proxy")]),
    // nodes get their rights from the Node authoriser, which knows which node asks
    ("system:node", "system:node", &[]),
    ("kybern:node-bootstrapper", "system:node-bootstrapper", JOINING),
    ("kybern:approve-node-client", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", JOINING),
    (
        "kybern:approve-node-renewal",
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[Group("system:nodes")],
    ),
    // A node that was off until its certificate had expired may ask for the next one.
    ("kybern:expired-node", "system:node-bootstrapper", &[Group(EXPIRED_NODES)]),
    (
        "kybern:approve-expired-node",
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[Group(EXPIRED_NODES)],
    ),
    ("kybern:ingress", "kybern:ingress", &[Account(kybern_api::ingress::ACCOUNT)]),
    ("kybern:server-joiner", "kybern:server-joiner", &[Group("system:bootstrappers:kybern:servers")]),
];

/// Namespace, name of the binding and of its Role, subjects.
const NAMESPACED: &[(&str, &str, &str, &[Who])] = &[
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[Account("bootstrap-signer")],
    ),
    ("kube-system", "system:controller:token-cleaner", "system:controller:token-cleaner", &[Account("token-cleaner")]),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &[Account("cloud-provider")],
    ),
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[User("system:kube-controller-manager"), User("system:kube-scheduler")],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[User("system:kube-controller-manager"), Account("kube-controller-manager")],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[User("system:kube-scheduler"), Account("kube-scheduler")],
    ),
    ("kube-system", "kybern:certificates", "kybern:certificates", &[Group("system:nodes")]),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[Account("bootstrap-signer")],
    ),
];

fn subjects(list: &[Who]) -> Vec<Value> {
    let subject = |who: &Who| match who {
        Group(name) => group(name),
        User(name) => user(name),
        Account(name) => service_account("kube-system", name),
    };
    list.iter().map(subject).collect()
}

pub(super) fn cluster() -> Vec<Value> {
    CLUSTER.iter().map(|(name, role, who)| binding("", name, "ClusterRole", role, &subjects(who))).collect()
}

pub(super) fn namespaced() -> Vec<Value> {
    NAMESPACED.iter().map(|(ns, name, role, who)| binding(ns, name, "Role", role, &subjects(who))).collect()
}
