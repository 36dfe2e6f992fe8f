//! The catalogue of bad input, over real sockets: what is not in the tables of `statuses` (requests), `hostile`
//! (bodies), `limits` (connections) and `past_faults` (names), row by row.

use crate::cases::{MAPS, maps, none, verdict};
use crate::hostile::send;
use crate::sockets::{Served, ask, serve};
use kybern_rbac::Standard;
use kybern_testkit::{Builder, World, objects};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// What, method, path, media type, body, `code reason`, and words of the message.
type Row<'a> = (&'a str, &'a str, String, &'a str, String, &'a str, &'a str);

async fn check(served: &Served, rows: &[Row<'_>]) {
    let mut wrong = Vec::new();
    for (what, method, path, media, body, want, words) in rows {
        let began = Instant::now();
        let answer = send(served, method, path, media, body.clone()).await;
        let status = answer.json();
        let fits = verdict(&answer) == *want && status["kind"] == "Status" && status["code"] == answer.code;
        if !fits || !status["message"].as_str().unwrap_or_default().contains(words) {
            wrong.push(format!("{what}: want {want} {words}, got {}: {:.400}", verdict(&answer), answer.text()));
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{what} took {:?}", began.elapsed());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn pod(change: impl Fn(&mut Value)) -> String {
    let mut pod = objects::pod("p");
    change(&mut pod["spec"]);
    pod.to_string()
}

#[tokio::test]
async fn pods_made_to_break_a_cluster() {
    let world = World::start().await;
    let served = serve(&world).await;
    let container = |key: &str, value: Value| pod(|spec| spec["containers"][0][key] = value.clone());
    let many = |make: fn(usize) -> Value| (0..10_000).map(make).collect::<Value>();
    let of_pods = || PODS.to_owned();
    let rows: [Row<'_>; 12] = [
        (
            "less than no CPU",
            "POST",
            of_pods(),
            JSON,
            container("resources", json!({"requests": {"cpu": "-1"}})),
            "422 Invalid",
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\"",
        ),
        (
            "a quantity that is none",
            "POST",
            of_pods(),
            JSON,
            container("resources", json!({"limits": {"cpu": "1e"}})),
            "400 BadRequest",
            "quantities must match",
        ),
        (
            "more than the limit",
            "POST",
            of_pods(),
            JSON,
            container("resources", json!({"limits": {"cpu": "1"}, "requests": {"cpu": "9223372036854775808"}})),
            "422 Invalid",
            "must be less than or equal to cpu limit",
        ),
        (
            "10,000 containers of one name",
            "POST",
            of_pods(),
            JSON,
            pod(|spec| spec["containers"] = many(|_| json!({"name": "c", "image": "x"}))),
            "422 Invalid",
            "Duplicate value: \"c\"",
        ),
        (
            "10,000 variables without names",
            "POST",
            of_pods(),
            JSON,
            container("env", many(|_| json!({"name": ""}))),
            "422 Invalid",
            "spec.containers[0].env[9999].name",
        ),
        (
            "a path out of the volume",
            "POST",
            of_pods(),
            JSON,
            pod(|spec| {
                spec["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
                spec["containers"][0]["volumeMounts"] =
                    json!([{"name": "v", "mountPath": "/m", "subPath": "../../etc"}]);
            }),
            "422 Invalid",
            "must not contain '..'",
        ),
        (
            "a path of the host with ..",
            "POST",
            of_pods(),
            JSON,
            pod(|spec| spec["volumes"] = json!([{"name": "v", "hostPath": {"path": "/a/../etc"}}])),
            "422 Invalid",
            "must not contain '..'",
        ),
        (
            "a seccomp profile out of its directory",
            "POST",
            of_pods(),
            JSON,
            pod(|spec| {
                spec["securityContext"] = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}})
            }),
            "422 Invalid",
            "localhostProfile",
        ),
        (
            "a sysctl that is none",
            "POST",
            of_pods(),
            JSON,
            pod(|spec| spec["securityContext"] = json!({"sysctls": [{"name": "../x", "value": "1"}]})),
            "422 Invalid",
            "sysctls[0].name",
        ),
        (
            "a user below zero",
            "POST",
            of_pods(),
            JSON,
            pod(|spec| spec["securityContext"] = json!({"runAsUser": -1})),
            "422 Invalid",
            "runAsUser",
        ),
        (
            "ports that are none",
            "POST",
            of_pods(),
            JSON,
            container("ports", json!([{"containerPort": 70_000}])),
            "422 Invalid",
            "must be between 1 and 65535",
        ),
        (
            "an object beyond what is stored",
            "POST",
            "/apis/apps/v1/namespaces/default/controllerrevisions".into(),
            JSON,
            json!({"metadata": {"name": "r"}, "revision": 1, "data": {"x": "x".repeat(1_700_000)}}).to_string(),
            "413 RequestEntityTooLarge",
            "Request entity too large",
        ),
    ];
    check(&served, &rows).await;
    assert_eq!(world.call("GET", PODS, &none()).await.json()["items"], json!([]), "none was kept");
    served.end().await;
}

#[tokio::test]
async fn policies_refuse_in_their_own_words() {
    let world = World::start().await;
    let served = serve(&world).await;
    let mut strict = objects::namespace("strict");
    strict["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    assert_eq!(world.call("POST", "/api/v1/namespaces", &strict).await.code, 201);
    assert_eq!(world.call("POST", "/api/v1/namespaces", &objects::namespace("ending")).await.code, 201);
    assert_eq!(world.call("DELETE", "/api/v1/namespaces/ending", &none()).await.code, 200);
    maps(&world, &["here"]).await;
    let applied =
        |value: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: here}}, data: {{key: {value}}}}}");
    let mine =
        send(&served, "PATCH", &format!("{MAPS}/here?fieldManager=first&force=true"), APPLY, applied("mine")).await;
    assert_eq!(mine.code, 200, "{}", mine.text());
    let spoof = |name: &str| {
        json!({
            "metadata": {"name": name},
            "spec": {"request": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K", "signerName": "no-domain", "usages": ["client auth"]},
        })
    };
    let rows: [Row<'_>; 7] = [
        (
            "a pod against Pod Security",
            "POST",
            "/api/v1/namespaces/strict/pods".into(),
            JSON,
            objects::pod("p").to_string(),
            "403 Forbidden",
            "violates PodSecurity \"restricted:latest\"",
        ),
        (
            "into a namespace that ends",
            "POST",
            "/api/v1/namespaces/ending/configmaps".into(),
            JSON,
            objects::config_map("x", "1").to_string(),
            "403 Forbidden",
            "because it is being terminated",
        ),
        (
            "into a namespace that is not",
            "POST",
            "/api/v1/namespaces/none/configmaps".into(),
            JSON,
            objects::config_map("x", "1").to_string(),
            "404 NotFound",
            "namespaces \"none\" not found",
        ),
        (
            "a field that another owns",
            "PATCH",
            format!("{MAPS}/here?fieldManager=second"),
            APPLY,
            applied("theirs"),
            "409 Conflict",
            "conflict with \"first\"",
        ),
        (
            "a namespace the cluster needs",
            "DELETE",
            "/api/v1/namespaces/kube-system".into(),
            JSON,
            String::new(),
            "403 Forbidden",
            "this namespace may not be deleted",
        ),
        (
            "a request for a certificate of nobody",
            "POST",
            "/apis/certificates.k8s.io/v1/certificatesigningrequests".into(),
            JSON,
            spoof("c").to_string(),
            "422 Invalid",
            "spec.signerName",
        ),
        (
            "managed fields in an apply",
            "PATCH",
            format!("{MAPS}/here?fieldManager=second"),
            APPLY,
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: here, managedFields: [{}]}}".into(),
            "400 BadRequest",
            "metadata.managedFields must be nil",
        ),
    ];
    check(&served, &rows).await;
    let terminating =
        send(&served, "POST", "/api/v1/namespaces/ending/configmaps", JSON, objects::config_map("x", "1").to_string())
            .await;
    assert_eq!(terminating.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let conflict = send(&served, "PATCH", &format!("{MAPS}/here?fieldManager=second"), APPLY, applied("theirs")).await;
    assert_eq!(
        conflict.json()["details"]["causes"][0],
        json!({
            "reason": "FieldManagerConflict", "field": ".data.key", "message": "conflict with \"first\"",
        })
    );
    served.end().await;
}

#[tokio::test]
async fn who_may_not_is_told_so_and_nothing_else() {
    let world = Builder::default().authorizer(Arc::new(Standard::default())).start().await;
    maps(&world, &["here"]).await;
    let served = serve(&world).await;
    let get = |user: &str, path: &str, extra: &[(&str, &str)]| {
        let mut request = http::Request::get(path);
        if !user.is_empty() {
            request = request.header("authorization", format!("Bearer {user}"));
        }
        extra.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let cases = [
        (get("", MAPS, &[]), "401 Unauthorized", "Unauthorized"),
        (get("jane", MAPS, &[]), "403 Forbidden", "User \"jane\" cannot list resource \"configmaps\""),
        (get("jane", "/api/v1/nodes/n/proxy/pods", &[]), "403 Forbidden", "nodes \"n\" is forbidden"),
        (get("jane", "/metrics", &[]), "403 Forbidden", "cannot get path \"/metrics\""),
        (get("jane", MAPS, &[("impersonate-user", "admin")]), "403 Forbidden", "cannot impersonate resource \"users\""),
        (get("admin", MAPS, &[("impersonate-group", "x")]), "400 BadRequest", "without impersonating a user"),
        (get("jane<b>", MAPS, &[]), "403 Forbidden", "\"jane&lt;b&gt;\""),
        (
            get("admin", MAPS, &[("accept", "text/html")]),
            "406 NotAcceptable",
            "only the following media types are accepted",
        ),
    ];
    for (request, want, words) in cases {
        let answer = ask(&served, request, "").await;
        assert_eq!(verdict(&answer), want, "{}", answer.text());
        assert!(answer.json()["message"].as_str().unwrap_or_default().contains(words), "{words}: {}", answer.text());
        if answer.code == 403 {
            assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        }
    }
    served.end().await;
}

#[tokio::test]
async fn patches_do_not_reach_where_writes_may_not() {
    let world = World::start().await;
    maps(&world, &["here"]).await;
    assert_eq!(world.call("POST", PODS, &objects::pod("p")).await.code, 201);
    let served = serve(&world).await;
    let rows: [Row<'_>; 6] = [
        (
            "another name",
            "PATCH",
            format!("{MAPS}/here"),
            MERGE,
            json!({"metadata": {"name": "x"}}).to_string(),
            "400 BadRequest",
            "",
        ),
        (
            "another namespace",
            "PATCH",
            format!("{MAPS}/here"),
            MERGE,
            json!({"metadata": {"namespace": "x"}}).to_string(),
            "400 BadRequest",
            "",
        ),
        (
            "another uid",
            "PATCH",
            format!("{MAPS}/here"),
            MERGE,
            json!({"metadata": {"uid": "x"}}).to_string(),
            "409 Conflict",
            "UID in precondition",
        ),
        (
            "a container's command",
            "PATCH",
            format!("{PODS}/p"),
            "application/strategic-merge-patch+json",
            json!({"spec": {"containers": [{"name": "main", "command": ["x"]}]}}).to_string(),
            "422 Invalid",
            "pod updates may not change fields other than",
        ),
        (
            "a directive that is none",
            "PATCH",
            format!("{PODS}/p"),
            "application/strategic-merge-patch+json",
            json!({"spec": {"$patch": "burn"}}).to_string(),
            "400 BadRequest",
            "",
        ),
        (
            "a list element without its key",
            "PATCH",
            format!("{PODS}/p"),
            "application/strategic-merge-patch+json",
            json!({"spec": {"containers": [{"image": "x"}]}}).to_string(),
            "400 BadRequest",
            "",
        ),
    ];
    check(&served, &rows).await;
    served.end().await;
}
