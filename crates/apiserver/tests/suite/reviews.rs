//! TokenReview: whose token it is, and for whom it is good.

use kybern_authn::pki::ClusterKeys;
use kybern_authn::{Assembly, TokenConfig};
use kybern_client::transport::{Resource, Target, Transport, Write};
use kybern_testkit::{Builder, START, World};
use serde_json::{Value, json};
use std::sync::Arc;

async fn world() -> World {
    let keys = ClusterKeys::create(START.parse().expect("a time")).expect("keys");
    let assembly = Assembly::new(&keys, &TokenConfig::for_domain("cluster.local")).expect("an assembly");
    Builder::default().authenticator(assembly.authenticator).issuer(assembly.issuer).start().await
}

async fn post(client: &Arc<dyn Transport>, resource: Resource, at: (&str, &str, &str), body: &Value) -> Value {
    let (namespace, name, subresource) = at;
    let target = Target {
        resource,
        namespace: namespace.into(),
        name: name.into(),
        subresource: subresource.into(),
        query: Vec::new(),
        term: 0,
    };
    let bytes = client.write(&target, Write::Create(body.to_string().into())).await.expect("created");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// A token of the account `web` for `audiences`.
async fn token(client: &Arc<dyn Transport>, audiences: &Value) -> String {
    let of = Resource::new("", "v1", "serviceaccounts");
    let body = json!({"spec": {"audiences": audiences}});
    let minted = post(client, of, ("default", "web", "token"), &body).await;
    minted["status"]["token"].as_str().expect("a token").to_owned()
}

async fn review(client: &Arc<dyn Transport>, token: &str, audiences: &Value) -> Value {
    let of = Resource::new("authentication.k8s.io", "v1", "tokenreviews");
    let body = json!({"spec": {"token": token, "audiences": audiences}});
    post(client, of, ("", "", ""), &body).await["status"].clone()
}

#[tokio::test]
async fn a_token_is_reviewed_for_the_audiences_that_are_asked_about() {
    let world = world().await;
    let admin = world.admin();
    let of = Resource::new("", "v1", "serviceaccounts");
    post(&admin, of, ("default", "", ""), &json!({"metadata": {"name": "web"}})).await;
    let own = "https://kubernetes.default.svc.cluster.local";
    let (plain, vault) = (token(&admin, &json!([])).await, token(&admin, &json!(["vault", "backup"])).await);
    let cases = [
        (&plain, json!([]), Some(json!([own]))),
        (&plain, json!([own]), Some(json!([own]))),
        (&plain, json!(["vault"]), None),
        (&plain, json!(["vault", own]), Some(json!([own]))),
        (&vault, json!([]), None),
        (&vault, json!(["vault"]), Some(json!(["vault"]))),
        (&vault, json!(["other", "backup", "vault"]), Some(json!(["backup", "vault"]))),
        (&vault, json!(["other"]), None),
    ];
    for (token, audiences, good_for) in cases {
        let status = review(&admin, token, &audiences).await;
        match good_for {
            Some(wanted) => {
                assert_eq!(status["authenticated"], true, "{audiences}: {status}");
                assert_eq!(status["audiences"], wanted);
                assert_eq!(status["user"]["username"], "system:serviceaccount:default:web");
            }
            None => {
                assert_eq!((&status["authenticated"], &status["user"]), (&json!(false), &Value::Null), "{audiences}");
            }
        }
    }
    let forged = format!("{}x", &plain[..plain.len() - 1]);
    assert_eq!(review(&admin, &forged, &json!([])).await["authenticated"], false);
}

/// The Node authoriser lets a node list the pods that run on it, and no others.
#[tokio::test]
async fn a_review_hands_selectors_to_the_authoriser() {
    let world = Builder::default().authorizer(Arc::new(kybern_testkit::rbac::Standard::new())).start().await;
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let asked = async |selector: Value| {
        let mut attributes = json!({"verb": "list", "resource": "pods", "version": "v1"});
        if !selector.is_null() {
            attributes["fieldSelector"] = selector;
        }
        let spec = json!({"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": attributes});
        let answer = world.call("POST", path, &json!({"spec": spec})).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
        answer.json()["status"]["allowed"] == true
    };
    let required = |node: &str| json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": [node]}]});
    assert!(asked(required("n1")).await && asked(json!({"rawSelector": "spec.nodeName=n1"})).await);
    assert!(!asked(Value::Null).await && !asked(required("n2")).await);
    assert!(!asked(json!({"rawSelector": "metadata.name=x"})).await);
}
