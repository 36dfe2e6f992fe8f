//! The default ClusterRoles as rows.

use super::{PATHS, Row, cluster_role, label, metadata, rules};
use serde_json::{Value, json};

const READ: &str = "get list watch";
const WRITE: &str = "create update patch delete deletecollection";
const EVENTS: Row = ("core events.k8s.io", "events", "create patch update");

/// What a node's agent may ask for: what Kubernetes gives a kubelet, and, since the agent is the service
/// proxy and the DNS server of its node too, what Kubernetes gives kube-proxy.
pub(super) const NODE: &[Row] = &[
    ("authentication.k8s.io", "tokenreviews", "create"),
    ("authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews", "create"),
    ("core", "services", READ),
    ("discovery.k8s.io", "endpointslices", READ),
    ("core", "nodes", "create get list watch update patch"),
    ("core", "nodes/status", "update patch"),
    EVENTS,
    ("core", "pods", "get list watch create delete"),
    ("core", "pods/status", "update patch"),
    ("core", "pods/eviction", "create"),
    ("core", "secrets configmaps", READ),
    ("core", "serviceaccounts", "get"),
    ("core", "serviceaccounts/token", "create"),
    ("core", "persistentvolumeclaims persistentvolumes", "get"),
    ("core", "persistentvolumeclaims/status", "get update patch"),
    ("core", "endpoints", "get"),
    ("certificates.k8s.io", "certificatesigningrequests", "create get list watch"),
    ("coordination.k8s.io", "leases", "create get update patch delete"),
    ("storage.k8s.io", "volumeattachments", "get"),
    ("storage.k8s.io", "csidrivers", READ),
    ("storage.k8s.io", "csinodes", "create get update patch delete"),
    ("node.k8s.io", "runtimeclasses", READ),
];

/// What kube-proxy needs where one runs by itself.
const NODE_PROXIER: &[Row] = &[
    ("core", "services endpoints", "list watch"),
    ("core", "nodes", READ),
    EVENTS,
    ("discovery.k8s.io", "endpointslices", "list watch"),
    ("networking.k8s.io", "servicecidrs", "list watch"),
];

const SCHEDULER: &[Row] = &[
    EVENTS,
    ("coordination.k8s.io", "leases", "create get list update watch"),
    ("coordination.k8s.io", "leases=kube-scheduler", "get update"),
    ("core", "nodes", READ),
    ("core", "pods", "delete get list watch"),
    ("core", "bindings pods/binding", "create"),
    ("core", "pods/status", "patch update"),
    ("core", "replicationcontrollers services", READ),
    ("apps extensions", "replicasets", READ),
    ("apps", "statefulsets", READ),
    ("policy", "poddisruptionbudgets", READ),
    ("core", "persistentvolumeclaims persistentvolumes", READ),
    ("core", "namespaces", READ),
    ("authentication.k8s.io", "tokenreviews", "create"),
    ("authorization.k8s.io", "subjectaccessreviews", "create"),
    ("storage.k8s.io", "csinodes csidrivers csistoragecapacities volumeattachments", READ),
    ("resource.k8s.io", "deviceclasses resourceslices", READ),
    ("resource.k8s.io", "resourceclaims", "get list watch patch update"),
    ("resource.k8s.io", "resourceclaims/status", "get list watch patch update"),
];

const CONTROLLER_MANAGER: &[Row] = &[
    EVENTS,
    ("coordination.k8s.io", "leases", "create get list update watch"),
    ("core", "secrets serviceaccounts", "create"),
    ("core", "secrets", "delete"),
    ("core", "configmaps namespaces secrets serviceaccounts", "get"),
    ("core", "secrets serviceaccounts", "update"),
    ("authentication.k8s.io", "tokenreviews", "create"),
    ("authorization.k8s.io", "subjectaccessreviews", "create"),
    ("*", "*", "list watch"),
    ("core", "serviceaccounts/token", "create"),
];

const VOLUME_SCHEDULER: &[Row] = &[
    ("core", "persistentvolumes persistentvolumeclaims", "get list patch update watch"),
    ("storage.k8s.io", "storageclasses", READ),
];

const DISCOVERY: &[Row] =
    &[(PATHS, "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/", "get")];

/// Names and rules of the roles without aggregation.
const PLAIN: &[(&str, &[Row])] = &[
    ("cluster-admin", &[("*", "*", "*"), (PATHS, "*", "*")]),
    ("system:discovery", DISCOVERY),
    (
        "system:monitoring",
        &[(PATHS, "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*", "get")],
    ),
    (
        "system:basic-user",
        &[
            ("authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews", "create"),
            ("authentication.k8s.io", "selfsubjectreviews", "create"),
        ],
    ),
    ("system:public-info-viewer", &[(PATHS, "/healthz /livez /readyz /version /version/", "get")]),
    ("system:node", NODE),
    ("system:node-problem-detector", &[("core", "nodes", "get"), ("core", "nodes/status", "patch"), EVENTS]),
    ("system:node-proxier", NODE_PROXIER),
    ("system:node-bootstrapper", &[("certificates.k8s.io", "certificatesigningrequests", "create get list watch")]),
    (
        "system:kubelet-api-admin",
        &[
            ("core", "nodes", "get list watch"),
            ("core", "nodes", "proxy"),
            ("core", "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats", "*"),
        ],
    ),
    (
        "system:auth-delegator",
        &[
            ("authentication.k8s.io", "tokenreviews", "create"),
            ("authorization.k8s.io", "subjectaccessreviews", "create"),
        ],
    ),
    ("system:kube-aggregator", &[("core", "endpoints services", READ), ("discovery.k8s.io", "endpointslices", READ)]),
    ("system:kube-controller-manager", CONTROLLER_MANAGER),
    ("system:kube-scheduler", SCHEDULER),
    ("system:volume-scheduler", VOLUME_SCHEDULER),
    ("system:kube-dns", &[("core", "endpoints services", "list watch")]),
    (
        "system:persistent-volume-provisioner",
        &[
            ("core", "persistentvolumes", "create delete get list watch"),
            ("core", "persistentvolumeclaims", "get list update watch"),
            ("storage.k8s.io", "storageclasses", READ),
            ("core", "events", "watch"),
            EVENTS,
        ],
    ),
    (
        "system:service-account-issuer-discovery",
        &[(
            PATHS,
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
            "get",
        )],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[("certificates.k8s.io", "certificatesigningrequests/nodeclient", "create")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[("certificates.k8s.io", "certificatesigningrequests/selfnodeclient", "create")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[("certificates.k8s.io", "signers=kubernetes.io/kube-apiserver-client", "approve")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[("certificates.k8s.io", "signers=kubernetes.io/kube-apiserver-client-kubelet", "approve")],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[("certificates.k8s.io", "signers=kubernetes.io/kubelet-serving", "approve")],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[("certificates.k8s.io", "signers=kubernetes.io/legacy-unknown", "approve")],
    ),
    // the Ingress proxies of the nodes
    ("kybern:ingress", &[("networking.k8s.io", "ingresses ingressclasses", READ)]),
    // a joining server fetches the cluster's keys
    ("kybern:server-joiner", &[(PATHS, "/kybern/v1/server-bundle", "post")]),
];

const VIEW: &[Row] = &[
    (
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers \
        replicationcontrollers/scale serviceaccounts services services/status",
        READ,
    ),
    (
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status \
        resourcequotas resourcequotas/status",
        READ,
    ),
    ("core", "namespaces", READ),
    ("discovery.k8s.io", "endpointslices", READ),
    (
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status \
        replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
        READ,
    ),
    ("autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status", READ),
    ("batch", "cronjobs cronjobs/status jobs jobs/status", READ),
    (
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
        ingresses/status networkpolicies replicasets replicasets/scale replicasets/status \
        replicationcontrollers/scale",
        READ,
    ),
    ("policy", "poddisruptionbudgets poddisruptionbudgets/status", READ),
    ("networking.k8s.io", "ingresses ingresses/status networkpolicies", READ),
    ("resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates", READ),
];

/// Endpoints and EndpointSlices are not in it: who writes them redirects other people's traffic.
const EDIT: &[Row] = &[
    ("core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy", READ),
    ("core", "serviceaccounts", "impersonate"),
    ("core", "pods pods/attach pods/exec pods/portforward pods/proxy", WRITE),
    ("core", "pods/eviction", "create"),
    (
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
        serviceaccounts services services/proxy",
        WRITE,
    ),
    ("core", "serviceaccounts/token", "create"),
    (
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale \
        statefulsets statefulsets/scale",
        WRITE,
    ),
    ("autoscaling", "horizontalpodautoscalers", WRITE),
    ("batch", "cronjobs jobs", WRITE),
    (
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies \
        replicasets replicasets/scale replicationcontrollers/scale",
        WRITE,
    ),
    ("policy", "poddisruptionbudgets", WRITE),
    ("networking.k8s.io", "ingresses networkpolicies", WRITE),
    ("coordination.k8s.io", "leases", "create delete deletecollection get list patch update watch"),
    ("resource.k8s.io", "resourceclaims resourceclaimtemplates", WRITE),
];

const ADMIN: &[Row] = &[
    ("authorization.k8s.io", "localsubjectaccessreviews", "create"),
    ("rbac.authorization.k8s.io", "rolebindings roles", "create delete deletecollection get list patch update watch"),
];

const METRICS: &[Row] = &[("metrics.k8s.io", "nodes pods", READ)];

/// The roles of people: name, own rules (under `system:aggregate-to-NAME`), and the next wider role.
const LADDER: [(&str, &[Row], Option<&str>); 3] =
    [("view", VIEW, Some("edit")), ("edit", EDIT, Some("admin")), ("admin", ADMIN, None)];

pub(super) fn roles() -> Vec<Value> {
    let plain = PLAIN.iter().map(|(name, rows)| cluster_role(name, &rules(rows)));
    let ladder = LADDER.iter().flat_map(|(name, rows, wider)| step(name, rows, *wider));
    plain.chain(ladder).chain([metrics_reader()]).collect()
}

/// What the metrics server brings in other clusters: who may view pods may see what they use.
fn metrics_reader() -> Value {
    let markers = ["view", "edit", "admin"].map(|role| format!("rbac.authorization.k8s.io/aggregate-to-{role}"));
    let markers: Vec<(&str, &str)> = markers.iter().map(|m| (m.as_str(), "true")).collect();
    label(cluster_role("system:aggregated-metrics-reader", &rules(METRICS)), &markers)
}

/// Two roles: the rules, and the one that collects them and whatever others label for it. The collected
/// rules are filled in at once, so that the role works before any controller runs.
fn step(name: &str, rows: &[Row], wider: Option<&str>) -> [Value; 2] {
    let marker = |role: &str| format!("rbac.authorization.k8s.io/aggregate-to-{role}");
    let own = marker(name);
    let part = label(cluster_role(&format!("system:aggregate-to-{name}"), &rules(rows)), &[(&own, "true")]);
    let mut whole = json!({
        "apiVersion": super::GROUP_VERSION,
        "kind": "ClusterRole",
        "metadata": metadata("", name),
        "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { &own: "true" } }] },
        "rules": rules(&collected(name)),
    });
    if let Some(wider) = wider {
        whole = label(whole, &[(&marker(wider), "true")]);
    }
    [part, whole]
}

/// The rows of a role of people and of all narrower ones, and what the metrics reader adds to each.
fn collected(name: &str) -> Vec<Row> {
    let upto = LADDER.iter().position(|(step, ..)| *step == name).map_or(0, |at| at + 1);
    let own = LADDER[..upto].iter().rev().flat_map(|(_, rows, _)| rows.iter().copied());
    own.chain(METRICS.iter().copied()).collect()
}
