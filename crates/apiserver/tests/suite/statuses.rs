//! What bad requests are answered with: code and reason, by case.

use crate::cases::{MAPS, maps, verdict};
use crate::hostile::send;
use crate::sockets::serve;
use bytes::Bytes;
use kybern_testkit::{World, objects};

/// method, path, media type, body, code and reason.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const PATCH: &str = "application/json-patch+json";

const CASES: &[Case] = &[
    ("POST", "", JSON, "{", "400 BadRequest"),
    ("POST", "", "application/yaml", ": : :", "400 BadRequest"),
    ("POST", "", JSON, r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x"}}"#, "400 BadRequest"),
    ("POST", "", JSON, r#"{"kind":"ConfigMap","apiVersion":"v2","metadata":{"name":"x"}}"#, "400 BadRequest"),
    ("POST", "", JSON, r#"{"metadata":{"name":"x","namespace":"other"}}"#, "400 BadRequest"),
    ("POST", "", JSON, r#"{"metadata":{}}"#, "422 Invalid"),
    ("POST", "", JSON, r#"{"metadata":{"name":"UPPER"}}"#, "422 Invalid"),
    ("POST", "", JSON, r#"{"metadata":{"name":"x","labels":{"a b":"c"}}}"#, "422 Invalid"),
    ("POST", "", JSON, r#"{"metadata":{"name":"x","resourceVersion":"5"}}"#, "500"),
    ("POST", "", JSON, r#"{"metadata":{"name":"here"}}"#, "409 AlreadyExists"),
    ("POST", "", "text/plain", "x", "415 UnsupportedMediaType"),
    ("POST", "?dryRun=Some", JSON, r#"{"metadata":{"name":"x"}}"#, "422 Invalid"),
    ("POST", "?fieldValidation=Harsh", JSON, r#"{"metadata":{"name":"x"}}"#, "422 Invalid"),
    ("POST", "?fieldValidation=Strict", JSON, r#"{"metadata":{"name":"x"},"dta":{}}"#, "400 BadRequest"),
    (
        "POST",
        "?fieldValidation=Strict",
        JSON,
        r#"{"metadata":{"name":"x"},"data":{"a":"1","a":"2"}}"#,
        "400 BadRequest",
    ),
    ("POST", "/here", JSON, r#"{"metadata":{"name":"x"}}"#, "405 MethodNotAllowed"),
    ("PUT", "", JSON, "{}", "405 MethodNotAllowed"),
    ("PUT", "/here", JSON, r#"{"metadata":{"name":"there"}}"#, "400 BadRequest"),
    ("PUT", "/here", JSON, r#"{"metadata":{"name":"here","namespace":"other"}}"#, "400 BadRequest"),
    ("PUT", "/here", JSON, r#"{"metadata":{"name":"here","resourceVersion":"1"}}"#, "409 Conflict"),
    ("PUT", "/here", JSON, r#"{"metadata":{"name":"here","uid":"other"}}"#, "409 Conflict"),
    ("PUT", "/missing", JSON, r#"{"metadata":{"name":"missing"}}"#, "404 NotFound"),
    ("GET", "/missing", JSON, "", "404 NotFound"),
    ("GET", "/here/nothing", JSON, "", "404 NotFound"),
    ("GET", "?resourceVersion=abc", JSON, "", "400 BadRequest"),
    ("GET", "?resourceVersionMatch=Exact", JSON, "", "422 Invalid"),
    ("GET", "?resourceVersionMatch=Exact&resourceVersion=0", JSON, "", "422 Invalid"),
    ("GET", "?sendInitialEvents=true", JSON, "", "422 Invalid"),
    ("GET", "?continue=forged", JSON, "", "400 BadRequest"),
    ("GET", "?limit=x", JSON, "", "400 BadRequest"),
    ("GET", "?labelSelector=a%20b%20c", JSON, "", "400 BadRequest"),
    ("GET", "/a%2fb", JSON, "", "400 BadRequest"),
    ("DELETE", "/missing", JSON, "", "404 NotFound"),
    ("DELETE", "/here", JSON, r#"{"preconditions":{"uid":"other"}}"#, "409 Conflict"),
    ("DELETE", "/here?propagationPolicy=Sideways", JSON, "", "422 Invalid"),
    ("DELETE", "/here", JSON, r#"{"kind":"Pod"}"#, "400 BadRequest"),
    ("PATCH", "/here", "text/plain", "{}", "415 UnsupportedMediaType"),
    ("PATCH", "/here", MERGE, "{", "400 BadRequest"),
    ("PATCH", "/here", MERGE, r#"{"metadata":{"resourceVersion":"1"}}"#, "409 Conflict"),
    ("PATCH", "/here", MERGE, r#"{"data":5}"#, "422 Invalid"),
    ("PATCH", "/here?force=true", MERGE, "{}", "422 Invalid"),
    ("PATCH", "/here", PATCH, r#"[{"op":"remove","path":"/nowhere"}]"#, "422 Invalid"),
    ("PATCH", "/here", PATCH, r#"[{"op":"test","path":"/data/key","value":"z"}]"#, "422 Invalid"),
    ("PATCH", "/here", "application/apply-patch+yaml", "apiVersion: v1\nkind: ConfigMap\n", "422 Invalid"),
    ("PATCH", "/missing", MERGE, "{}", "404 NotFound"),
];

#[tokio::test]
async fn bad_requests() {
    let world = World::start().await;
    maps(&world, &["here"]).await;
    let served = serve(&world).await;
    let mut wrong = Vec::new();
    for (method, rest, media, body, want) in CASES {
        let answer = send(&served, method, &format!("{MAPS}{rest}"), media, *body).await;
        if verdict(&answer) != *want {
            wrong.push(format!("{method} {rest} {body}\n  want {want}, got {}: {}", verdict(&answer), answer.text()));
        }
        let status = answer.json();
        assert_eq!(status["kind"], "Status", "{method} {rest}: {}", answer.text());
        assert_eq!(status["code"], answer.code, "{method} {rest}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let here = world.call("GET", &format!("{MAPS}/here"), &serde_json::Value::Null).await.json();
    assert_eq!(here["data"], objects::config_map("here", "x")["data"], "no bad request changed anything");
    served.end().await;
}

#[tokio::test]
async fn paths_that_name_nothing() {
    let world = World::start().await;
    for (path, want) in [
        ("/api/v1/namespaces/default/gadgets", 404),
        ("/apis/none.example.org/v1/things", 404),
        ("/api/v2/pods", 404),
        ("/nowhere", 404),
        ("/api/v1/namespaces/default/nodes", 404),
    ] {
        assert_eq!(world.call("GET", path, &serde_json::Value::Null).await.code, want, "{path}");
    }
}

#[tokio::test]
async fn a_missing_namespace_is_told_apart() {
    let world = World::start().await;
    let path = "/api/v1/namespaces/none/configmaps";
    let answer = world.call("POST", path, &objects::config_map("x", "1")).await;
    assert_eq!(verdict(&answer), "404 NotFound");
    assert!(answer.text().contains(r#"namespaces \"none\" not found"#), "{}", answer.text());
}

#[tokio::test]
async fn oversized_bodies_are_refused() {
    let world = World::start().await;
    let served = serve(&world).await;
    let big = objects::config_map("big", &"x".repeat(4 << 20));
    let answer = send(&served, "POST", MAPS, JSON, big.to_string()).await;
    assert_eq!(verdict(&answer), "413 RequestEntityTooLarge");
    assert!(answer.text().contains("limit is 3145728"));
    served.end().await;
}

#[tokio::test]
async fn nobody_gets_in_unasked() {
    let world = World::start().await;
    let request = http::Request::get(MAPS).body(Bytes::new()).expect("a request");
    assert_eq!(verdict(&world.http(request).await), "401 Unauthorized");
}

#[tokio::test]
async fn nobody_does_what_the_roles_do_not_say() {
    let standard = std::sync::Arc::new(kybern_rbac::Standard::default());
    let world = kybern_testkit::Builder::default().authorizer(standard).start().await;
    let get = |user: &str| {
        let request = http::Request::get(MAPS).header("authorization", format!("Bearer {user}")).body(Bytes::new());
        world.http(request.expect("a request"))
    };
    assert_eq!(get("admin").await.code, 200);
    let refused = get("jane").await;
    assert_eq!(verdict(&refused), "403 Forbidden");
    let text = r#"User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\""#;
    assert!(refused.text().contains(text), "{}", refused.text());
    assert_eq!(refused.headers["x-content-type-options"], "nosniff");
}
