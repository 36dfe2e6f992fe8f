//! Every plugin but NodeRestriction, through the whole chain.

use crate::world::{Call, World};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use kybern_admission::{Chain, Operation, Switches};
use kybern_api::error::Reason;
use serde_json::{Value, json};

fn pod(spec: Value) -> Value {
    json!({ "metadata": { "name": "x", "namespace": "ns" }, "spec": spec })
}

fn plain() -> Value {
    pod(json!({ "containers": [{ "name": "c", "image": "i" }] }))
}

/// Sends a pod and gives back its spec.
fn spec(world: &World, pod: Value) -> Value {
    Call::default().send(world, pod).expect("admitted")["spec"].clone()
}

#[test]
fn nothing_is_made_in_a_missing_or_dying_namespace() {
    let world = World::new();
    let config = |namespace: &'static str, operation| {
        let call = Call { resource: "configmaps", namespace, operation, old: Some(json!({})), ..Call::default() };
        call.send(&world, json!({ "metadata": { "name": "x" } }))
    };
    assert!(config("ns", Operation::Create).is_ok());
    let missing = config("missing", Operation::Create).expect_err("refused");
    assert_eq!((missing.code, missing.message.as_str()), (404, "namespaces \"missing\" not found"));
    assert_eq!(config("missing", Operation::Update).expect_err("refused").code, 404);
    assert!(config("missing", Operation::Delete).is_ok());
    let dying = config("dying", Operation::Create).expect_err("refused");
    assert_eq!(dying.reason, Reason::Forbidden);
    let text = "unable to create new content in namespace dying because it is being terminated";
    assert!(dying.message.contains(text), "{}", dying.message);
    assert_eq!(dying.details.expect("details").causes[0].reason, "NamespaceTerminating");
    assert!(config("dying", Operation::Update).is_ok());
    assert!(config("dying", Operation::Delete).is_ok());
    let review = Call {
        group: "authorization.k8s.io",
        resource: "localsubjectaccessreviews",
        namespace: "missing",
        ..Call::default()
    };
    assert!(review.send(&world, json!({})).is_ok());
}

#[test]
fn some_namespaces_are_immortal() {
    for (name, dies) in [("default", false), ("kube-system", false), ("kube-public", false), ("ns", true)] {
        let call =
            Call { resource: "namespaces", namespace: "", name, operation: Operation::Delete, ..Call::default() };
        assert_eq!(call.send(&World::new(), Value::Null).is_ok(), dies, "{name}");
    }
}

#[test]
fn a_pod_gets_the_default_account_and_its_token() {
    let spec = spec(&World::new(), plain());
    assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
    assert_eq!(
        spec["volumes"],
        json!([{ "name": "kube-api-access-bcdfg", "projected": { "defaultMode": 420, "sources": [
            { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
        ] } }])
    );
    assert_eq!(
        spec["containers"][0]["volumeMounts"],
        json!([{ "name": "kube-api-access-bcdfg", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }])
    );
}

#[test]
fn the_token_is_mounted_where_it_is_wanted() {
    let mut world = World::new();
    world.put("", "serviceaccounts", "ns", "quiet", json!({ "automountServiceAccountToken": false }));
    world.put("", "serviceaccounts", "ns", "pulls", json!({ "imagePullSecrets": [{ "name": "reg" }] }));
    // account, the pod's own word, is it mounted
    for (account, own, mounted) in
        [("default", None, true), ("default", Some(false), false), ("quiet", None, false), ("quiet", Some(true), true)]
    {
        let mut pod = plain();
        pod["spec"]["serviceAccountName"] = account.into();
        if let Some(own) = own {
            pod["spec"]["automountServiceAccountToken"] = own.into();
        }
        assert_eq!(spec(&world, pod)["volumes"].is_array(), mounted, "{account} {own:?}");
    }
    let path = "/var/run/secrets/kubernetes.io/serviceaccount";
    let own = json!([{ "name": "mine", "mountPath": path }]);
    let spec_of =
        |containers: Value| spec(&world, pod(json!({ "containers": containers, "serviceAccountName": "pulls" })));
    let all = spec_of(json!([{ "name": "a", "volumeMounts": own.clone() }]));
    assert!(all["volumes"].is_null(), "nobody needs it: {all}");
    assert_eq!(all["imagePullSecrets"], json!([{ "name": "reg" }]));
    let some = spec_of(json!([{ "name": "a", "volumeMounts": own }, { "name": "b" }]));
    assert_eq!(some["containers"][0]["volumeMounts"].as_array().map(Vec::len), Some(1));
    assert_eq!(some["containers"][1]["volumeMounts"][0]["mountPath"], path);
    let mut pod = plain();
    pod["spec"]["imagePullSecrets"] = json!([{ "name": "own" }]);
    pod["spec"]["serviceAccountName"] = "pulls".into();
    assert_eq!(spec(&world, pod)["imagePullSecrets"], json!([{ "name": "own" }]));
}

#[test]
fn a_missing_account_is_named() {
    let mut pod = plain();
    pod["spec"]["serviceAccountName"] = "ghost".into();
    let refused = Call::default().send(&World::new(), pod).expect_err("refused");
    assert_eq!(
        refused.message,
        "pods \"x\" is forbidden: error looking up service account ns/ghost: serviceaccount \"ghost\" not found"
    );
}

#[test]
fn new_nodes_wait_until_they_are_ready() {
    let call = Call { resource: "nodes", namespace: "", name: "n1", ..Call::default() };
    let taint = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" });
    let stored = call.send(&World::new(), json!({ "metadata": { "name": "n1" } })).expect("admitted");
    assert_eq!(stored["spec"]["taints"], json!([taint]));
    let update = Call { operation: Operation::Update, old: Some(json!({})), ..call };
    assert_eq!(update.send(&World::new(), json!({})).expect("admitted"), json!({}));
}

fn classes() -> World {
    let mut world = World::new();
    let class = |value: i32, default: bool| json!({ "value": value, "globalDefault": default });
    world.put("scheduling.k8s.io", "priorityclasses", "", "high", class(1000, false));
    let mut polite = class(500, false);
    polite["preemptionPolicy"] = "Never".into();
    world.put("scheduling.k8s.io", "priorityclasses", "", "polite", polite);
    world
}

#[test]
fn the_systems_classes_cannot_be_deleted() {
    let delete = |name| {
        let call =
            Call { group: "scheduling.k8s.io", resource: "priorityclasses", namespace: "", name, ..Call::default() };
        Call { operation: Operation::Delete, ..call }.send(&classes(), json!({}))
    };
    assert!(delete("high").is_ok());
    let refused = delete("system-node-critical").expect_err("a refusal");
    assert!(refused.message.contains("this is a system priority class and cannot be deleted"), "{}", refused.message);
}

#[test]
fn a_class_becomes_a_number() {
    let with = |fields: Value| {
        let mut pod = plain();
        pod["spec"].as_object_mut().expect("spec").extend(fields.as_object().expect("fields").clone());
        pod
    };
    let cases = [
        (json!({}), Ok((0, "PreemptLowerPriority"))),
        (json!({ "priorityClassName": "high" }), Ok((1000, "PreemptLowerPriority"))),
        (json!({ "priorityClassName": "polite" }), Ok((500, "Never"))),
        (json!({ "priorityClassName": "system-node-critical" }), Ok((2_000_001_000, "PreemptLowerPriority"))),
        (json!({ "priorityClassName": "high", "priority": 1000 }), Ok((1000, "PreemptLowerPriority"))),
        (json!({ "priorityClassName": "high", "priority": 1 }), Err("must not be provided")),
        (json!({ "priority": 5 }), Err("must not be provided")),
        (json!({ "priorityClassName": "high", "preemptionPolicy": "Never" }), Err("must not be provided")),
        (json!({ "priorityClassName": "ghost" }), Err("no PriorityClass with name ghost was found")),
    ];
    for (fields, expected) in cases {
        match (Call::default().send(&classes(), with(fields.clone())), expected) {
            (Ok(pod), Ok((value, policy))) => {
                assert_eq!(
                    (&pod["spec"]["priority"], &pod["spec"]["preemptionPolicy"]),
                    (&json!(value), &json!(policy)),
                    "{fields}"
                );
            }
            (Err(status), Err(text)) => {
                assert!(status.code == 403 && status.message.contains(text), "{}", status.message)
            }
            (got, wanted) => panic!("{fields}: got {got:?}, wanted {wanted:?}"),
        }
    }
    let mut world = classes();
    world.put("scheduling.k8s.io", "priorityclasses", "", "usual", json!({ "value": 7, "globalDefault": true }));
    let usual = spec(&world, plain());
    assert_eq!((&usual["priority"], &usual["priorityClassName"]), (&json!(7), &json!("usual")));
}

#[test]
fn one_class_is_the_default() {
    let mut world = World::new();
    let default = json!({ "value": 7, "globalDefault": true });
    world.put("scheduling.k8s.io", "priorityclasses", "", "usual", default.clone());
    let send = |name: &'static str| {
        let call =
            Call { group: "scheduling.k8s.io", resource: "priorityclasses", namespace: "", name, ..Call::default() };
        call.send(&world, default.clone())
    };
    assert!(send("usual").is_ok());
    assert_eq!(send("other").expect_err("refused").code, 403);
}

#[test]
fn an_update_keeps_the_computed_priority() {
    let old = json!({ "spec": { "priority": 1000, "preemptionPolicy": "Never" } });
    let call = Call { operation: Operation::Update, old: Some(old), ..Call::default() };
    let stored = call.send(&World::new(), plain()).expect("admitted");
    assert_eq!((&stored["spec"]["priority"], &stored["spec"]["preemptionPolicy"]), (&json!(1000), &json!("Never")));
}

#[test]
fn pods_tolerate_a_silent_node_for_five_minutes() {
    let tolerations = |own: Value| {
        let mut pod = plain();
        pod["spec"]["tolerations"] = own;
        spec(&World::new(), pod)["tolerations"].as_array().expect("a list").clone()
    };
    let keys = |list: &[Value]| list.iter().filter(|t| t["tolerationSeconds"] == 300).count();
    let both = tolerations(Value::Null);
    assert_eq!(keys(&both), 2);
    assert_eq!(
        both[0],
        json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 })
    );
    let own = json!([{ "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5 }]);
    assert_eq!(keys(&tolerations(own)), 1);
    assert_eq!(keys(&tolerations(json!([{ "operator": "Exists" }]))), 0);
    assert_eq!(keys(&tolerations(json!([{ "operator": "Exists", "effect": "NoSchedule" }]))), 2);
}

#[test]
fn cve_2020_8554_external_ips_are_denied() {
    let service = |addresses: &[&str]| json!({ "spec": { "externalIPs": addresses } });
    let send = |operation, old: Option<Value>, new| {
        Call { resource: "services", operation, old, ..Call::default() }.send(&World::new(), new)
    };
    let refused = send(Operation::Create, None, service(&["1.2.3.4"])).expect_err("refused");
    assert!(refused.code == 403 && refused.message.ends_with("Use of external IPs is denied by admission control."));
    assert!(send(Operation::Create, None, service(&[])).is_ok());
    assert!(send(Operation::Update, Some(service(&["1.2.3.4"])), service(&["1.2.3.4"])).is_ok(), "it was there");
    assert!(send(Operation::Update, Some(service(&["1.2.3.4"])), service(&[])).is_ok());
    assert!(send(Operation::Update, Some(service(&[])), service(&["1.2.3.4"])).is_err());
}

const REQUESTS: (&str, &str) = ("certificates.k8s.io", "certificatesigningrequests");

#[test]
fn approval_and_signature_take_rights_on_the_signer() {
    let stored = json!({ "spec": { "signerName": "example.com/serving" }, "status": {} });
    // subresource, what changes, what the user may, is it let through
    let cases: &[(&str, Value, &[&str], bool)] = &[
        ("approval", json!({ "conditions": [1] }), &["approve example.com/serving"], true),
        ("approval", json!({ "conditions": [1] }), &["approve example.com/*"], true),
        ("approval", json!({ "conditions": [1] }), &["sign example.com/serving"], false),
        ("approval", json!({ "conditions": [1] }), &["approve kubernetes.io/*"], false),
        ("approval", json!({ "conditions": [1] }), &[], false),
        ("status", json!({ "certificate": "x" }), &["sign example.com/serving"], true),
        ("status", json!({ "certificate": "x" }), &["approve example.com/serving"], false),
        ("status", json!({ "conditions": [1] }), &[], false),
        ("status", json!({}), &[], true),
    ];
    for (subresource, status, may, passes) in cases {
        let call = Call {
            group: REQUESTS.0,
            resource: REQUESTS.1,
            subresource,
            namespace: "",
            operation: Operation::Update,
            old: Some(stored.clone()),
            may,
            ..Call::default()
        };
        // the writer names a signer of his own, which changes nothing
        let new = json!({ "spec": { "signerName": "kubernetes.io/mine" }, "status": status });
        assert_eq!(call.send(&World::new(), new).is_ok(), *passes, "{subresource} {status} {may:?}");
    }
}

/// A CertificateSigningRequest for this subject, made by openssl.
pub fn request(subject: &str, signer: &str) -> Value {
    let dir = tempfile::tempdir().expect("dir");
    let out = std::process::Command::new("openssl")
        .current_dir(dir.path())
        .args(["req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", "k"])
        .args(["-multivalue-rdn", "-subj", subject])
        .output()
        .expect("openssl runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    json!({ "spec": { "signerName": format!("kubernetes.io/{signer}"), "request": STANDARD.encode(out.stdout) } })
}

#[test]
fn nobody_asks_for_a_certificate_of_the_masters() {
    let send = |object| {
        Call { group: REQUESTS.0, resource: REQUESTS.1, namespace: "", ..Call::default() }.send(&World::new(), object)
    };
    let signer = "kube-apiserver-client";
    assert!(send(request("/O=dev/CN=jane", signer)).is_ok());
    for subject in ["/O=system:masters/CN=jane", "/O=dev/O=system:masters/CN=jane", "/O=dev+O=system:masters/CN=jane"] {
        assert_eq!(send(request(subject, signer)).expect_err(subject).code, 403, "{subject}");
    }
    assert!(send(request("/O=system:masters/CN=jane", "legacy-unknown")).is_ok());
    for broken in ["", "!", "eA=="] {
        let object = json!({ "spec": { "signerName": "kubernetes.io/kube-apiserver-client", "request": broken } });
        assert!(send(object).is_err(), "{broken}");
    }
}

/// CVE-2023-2728, CVE-2024-3177: an account's pods named Secrets in places that nobody looked at.
#[test]
fn pods_of_a_bounded_account_name_no_other_secrets_in_any_place() {
    let mut world = World::new();
    let bounded = json!({
        "metadata": { "annotations": { "kubernetes.io/enforce-mountable-secrets": "true" } },
        "secrets": [{ "name": "own" }], "imagePullSecrets": [{ "name": "pull" }],
    });
    world.put("", "serviceaccounts", "ns", "bounded", bounded);
    let env = |s: &str| json!({ "env": [{ "name": "E", "valueFrom": { "secretKeyRef": { "name": s, "key": "k" } } }] });
    let from = |s: &str| json!({ "envFrom": [{ "secretRef": { "name": s } }] });
    let container = |mut more: Value| {
        more["name"] = "c".into();
        more["image"] = "i".into();
        more
    };
    let with = |field: &str, value: Value| {
        let mut spec = json!({ "serviceAccountName": "bounded", "containers": [{ "name": "m", "image": "i" }] });
        spec[field] = value;
        pod(spec)
    };
    let places = |s: &str| {
        [
            with("volumes", json!([{ "name": "v", "secret": { "secretName": s } }])),
            with("containers", json!([container(env(s))])),
            with("containers", json!([container(from(s))])),
            with("initContainers", json!([container(env(s))])),
            with("initContainers", json!([container(from(s))])),
        ]
    };
    for (own, foreign) in places("own").into_iter().zip(places("foreign")) {
        Call::default().send(&world, own.clone()).unwrap_or_else(|e| panic!("{own}: {e}"));
        let refused = Call::default().send(&world, foreign.clone()).expect_err("refused");
        assert_eq!(refused.code, 403, "{foreign}");
        assert!(refused.message.contains("service account bounded does not reference that secret"), "{refused}");
    }
    for debugged in [env("foreign"), from("foreign")] {
        let call = Call {
            subresource: "ephemeralcontainers",
            operation: Operation::Update,
            old: Some(with("volumes", json!([]))),
            ..Call::default()
        };
        let refused =
            call.send(&world, with("ephemeralContainers", json!([container(debugged)]))).expect_err("refused");
        assert!(refused.message.contains("ephemeral container c with env"), "{refused}");
    }
    let pull = Call::default().send(&world, with("imagePullSecrets", json!([{ "name": "own" }]))).expect_err("refused");
    assert!(pull.message.contains("imagePullSecrets[0].name=\"own\" is not allowed"), "{pull}");
    let mut free = places("foreign")[2].clone();
    free["spec"]["serviceAccountName"] = "default".into();
    Call::default().send(&world, free).expect("another account is not bounded");
}

#[test]
fn events_beyond_the_rate_are_refused_and_nothing_else_is() {
    let limits = json!({
        "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration",
        "limits": [{ "type": "Namespace", "qps": 1, "burst": 2 }, { "type": "User", "qps": 1, "burst": 3 }],
    });
    let event_limits = kybern_admission::event_limits(&limits).expect("limits");
    let switches = Switches { enable: vec!["EventRateLimit".into()], event_limits, ..Switches::default() };
    let (world, chain) = (World::new(), Chain::new(&switches).expect("a chain"));
    let send = |group: &'static str, resource: &'static str, namespace: &'static str| {
        let call = Call { group, resource, namespace, ..Call::default() };
        call.send_by(&chain, &world, json!({ "metadata": { "name": "e", "namespace": namespace } }))
            .map_err(|s| (s.code, s.message))
    };
    let of = |r: Result<Value, (u16, String)>| r.map(drop).map_err(|(code, text)| format!("{code} {text}"));
    assert!(send("", "events", "ns").is_ok() && send("events.k8s.io", "events", "ns").is_ok());
    assert_eq!(of(send("", "events", "ns")), Err("429 limit reached on type Namespace for key ns".into()));
    assert_eq!(of(send("", "events", "default")), Err("429 limit reached on type User for key jane".into()));
    assert!((0..9).all(|_| send("", "configmaps", "ns").is_ok()));
}
