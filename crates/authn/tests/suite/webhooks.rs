//! Tokens that a webhook knows: when it is asked, and what its answers are worth.

use crate::support::{START, World, known, refusal};
use kybern_authn::fetch::{Fetch, Fetching};
use kybern_authn::webhook::WebhookTokens;
use kybern_authn::{Anonymous, Authenticator, Credentials, Outcome, Union};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Answers with one document, and keeps what it was asked.
#[derive(Default)]
struct Hook {
    answer: Mutex<Option<Value>>,
    asked: Mutex<Vec<Value>>,
}

impl Hook {
    fn says(&self, status: Value) {
        *self.answer.lock().expect("lock") = Some(json!({"status": status}));
    }
    fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut *self.asked.lock().expect("lock"))
    }
}

impl Fetch for Hook {
    fn get<'a>(&'a self, _: &'a str) -> Fetching<'a> {
        unreachable!("a webhook is posted to")
    }
    fn post<'a>(&'a self, url: &'a str, body: Vec<u8>) -> Fetching<'a> {
        assert_eq!(url, "https://hook.example/authenticate");
        self.asked.lock().expect("lock").push(serde_json::from_slice(&body).expect("JSON"));
        let answer = self.answer.lock().expect("lock").clone().map(|v| v.to_string().into_bytes());
        Box::pin(std::future::ready(answer.ok_or_else(|| "connection refused".to_owned())))
    }
}

struct Place {
    hook: Arc<Hook>,
    union: Union,
}

impl Place {
    fn new() -> Self {
        let hook = Arc::new(Hook::default());
        let url = "https://hook.example/authenticate";
        let tokens = WebhookTokens::new(url, &["api".to_owned()], Duration::from_secs(120), hook.clone());
        Self { hook, union: Union::new(vec![Box::new(tokens)], Box::new(Anonymous)) }
    }

    async fn ask(&self, token: &str, seconds: i64) -> Outcome {
        let credentials =
            Credentials { bearer: Some(token), now: START + seconds, path: "/api", ..Credentials::default() };
        let world = World::default();
        if self.union.authenticate(&credentials, &world) == Outcome::Pending {
            self.union.bring(&credentials, &world).await;
        }
        self.union.authenticate(&credentials, &world)
    }
}

#[tokio::test]
async fn a_known_token_is_its_user_and_is_asked_about_once() {
    let place = Place::new();
    let user = json!({"username": "jane", "uid": "1", "groups": ["devs"], "extra": {"team": ["red"]}});
    place.hook.says(json!({"authenticated": true, "user": user, "audiences": ["api"]}));
    let user = known(place.ask("t", 0).await);
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "1"));
    assert_eq!(user.groups, ["devs", "system:authenticated"]);
    assert_eq!(user.extra["team"], ["red"]);
    let asked = place.hook.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (&asked[0]["kind"], &asked[0]["apiVersion"]),
        (&json!("TokenReview"), &json!("authentication.k8s.io/v1"))
    );
    assert_eq!(asked[0]["spec"], json!({"token": "t", "audiences": ["api"]}));
    known(place.ask("t", 119).await);
    assert!(place.hook.asked().is_empty(), "the answer holds for two minutes");
    place.hook.says(json!({"authenticated": false}));
    refusal(place.ask("t", 120).await);
    assert_eq!(place.hook.asked().len(), 1);
    refusal(place.ask("t", 200).await);
    assert!(place.hook.asked().is_empty(), "so does a no");
}

#[tokio::test]
async fn answers_that_name_nobody_let_nobody_in() {
    let user = json!({"username": "jane"});
    for status in [
        json!({"authenticated": false, "user": user}),
        json!({"authenticated": true}),
        json!({"authenticated": true, "user": {"username": ""}}),
        json!({"authenticated": true, "user": user, "audiences": ["elsewhere"]}),
        json!({"authenticated": "yes", "user": user}),
        json!(null),
    ] {
        let place = Place::new();
        place.hook.says(status.clone());
        let outcome = place.ask("t", 0).await;
        assert!(matches!(outcome, Outcome::Rejected(_)), "{status}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_webhook_that_is_down_is_asked_again_soon_and_not_at_once() {
    let place = Place::new();
    refusal(place.ask("t", 0).await);
    refusal(place.ask("t", 0).await);
    assert_eq!(place.hook.asked().len(), 1);
    place.hook.says(json!({"authenticated": true, "user": {"username": "jane"}}));
    known(place.ask("t", 1).await);
    refusal(place.ask(&"x".repeat(20_000), 1).await);
    assert_eq!(place.hook.asked().len(), 1, "what is too long is not passed on");
}

#[tokio::test]
async fn what_needs_no_webhook_does_not_ask_it() {
    let place = Place::new();
    let world = World::default();
    let of = |credentials: Credentials<'_>| place.union.authenticate(&credentials, &world);
    assert!(matches!(of(Credentials { path: "/healthz", ..Credentials::default() }), Outcome::Known(_)));
    let elsewhere = ["vault".to_owned()];
    let other = Credentials { bearer: Some("t"), audiences: &elsewhere, ..Credentials::default() };
    assert!(matches!(of(other), Outcome::Rejected(_)), "another audience is not its business");
    assert!(place.hook.asked().is_empty());
}
