//! Tokens of other issuers: whose are believed, how their users are named, when issuers are asked.

use crate::support::{START, World, known, refusal};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kybern_authn::fetch::{Fetch, Fetching};
use kybern_authn::oidc::{AuthenticationConfiguration, Oidc};
use kybern_authn::pki::new_key_pem;
use kybern_authn::{Anonymous, Authenticator, Credentials, Outcome, Union};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const ISSUER: &str = "https://issuer.example";
const OWN: &str = "https://kubernetes.default.svc.cluster.local";

/// Documents by URL, and what was asked for.
#[derive(Default)]
struct Web {
    documents: Mutex<BTreeMap<String, Result<Value, String>>>,
    asked: Mutex<Vec<String>>,
}

impl Web {
    fn put(&self, url: &str, document: Result<Value, String>) {
        self.documents.lock().expect("lock").insert(url.to_owned(), document);
    }
    fn asked(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().expect("lock")).len()
    }
}

impl Fetch for Web {
    fn get<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        self.asked.lock().expect("lock").push(url.to_owned());
        let found = self.documents.lock().expect("lock").get(url).cloned();
        let found = found.unwrap_or_else(|| Err(format!("{url}: HTTP 404"))).map(|v| v.to_string().into_bytes());
        Box::pin(std::future::ready(found))
    }
    fn post<'a>(&'a self, _: &'a str, _: Vec<u8>) -> Fetching<'a> {
        unreachable!("issuers are only read")
    }
}

/// A key of an issuer under an id.
struct Key {
    id: &'static str,
    pem: String,
}

impl Key {
    fn new(id: &'static str) -> Self {
        Self { id, pem: new_key_pem().expect("a key") }
    }
    fn signing(&self) -> EncodingKey {
        EncodingKey::from_ec_pem(self.pem.as_bytes()).expect("a key")
    }
    fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.signing(), Algorithm::ES256).expect("a JWK");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = self.id.into();
        jwk["use"] = "sig".into();
        jwk
    }
    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.into()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.signing()).expect("signed")
    }
}

fn publish(web: &Web, keys: &[&Key]) {
    let discovery = json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")});
    web.put(&format!("{ISSUER}/.well-known/openid-configuration"), Ok(discovery));
    let keys: Vec<Value> = keys.iter().map(|k| k.jwk()).collect();
    web.put(&format!("{ISSUER}/keys"), Ok(json!({"keys": keys})));
}

fn config(more: &str) -> AuthenticationConfiguration {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: {ISSUER}
    audiences: [kybern, other]
    audienceMatchPolicy: MatchAny
  claimMappings:
    username: {{ claim: sub, prefix: 'oidc:' }}
{more}"
    );
    let config: AuthenticationConfiguration = serde_saphyr::from_str(&text).expect("a configuration");
    config.check(OWN).expect("a good configuration");
    config
}

/// An authenticator with its web.
struct Place {
    web: Arc<Web>,
    union: Union,
}

impl Place {
    fn new(config: AuthenticationConfiguration) -> Self {
        let web = Arc::new(Web::default());
        let fetch = web.clone();
        let oidc = Oidc::new(config, move |_| Ok::<_, String>(fetch.clone() as Arc<dyn Fetch>)).expect("made");
        Self { web, union: Union::new(vec![Box::new(oidc)], Box::new(Anonymous)) }
    }

    /// As the corridor asks: at most one round outside.
    async fn ask(&self, token: &str, seconds: i64) -> Outcome {
        let credentials =
            Credentials { bearer: Some(token), now: START + seconds, path: "/api", ..Credentials::default() };
        let world = World::default();
        match self.union.authenticate(&credentials, &world) {
            Outcome::Pending => {
                self.union.bring(&credentials, &world).await;
                self.union.authenticate(&credentials, &world)
            }
            outcome => outcome,
        }
    }
}

fn claims(more: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": "kybern", "sub": "jane", "exp": START + 3600});
    claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    claims
}

#[tokio::test]
async fn claims_become_a_user() {
    let mappings = "    groups: { claim: roles, prefix: 'g:' }
    uid: { claim: oid }
    extra:
    - { key: example.com/team, valueExpression: claims.org.team }
    - { key: example.com/none, valueExpression: claims.nothing }
  claimValidationRules:
  - { claim: hd, requiredValue: example.com }";
    let (place, key) = (Place::new(config(mappings)), Key::new("k1"));
    publish(&place.web, &[&key]);
    let good = json!({"roles": ["a", "b"], "oid": "u-1", "org": {"team": "red"}, "hd": "example.com", "jti": "t1"});
    let user = known(place.ask(&key.sign(&claims(good.clone())), 0).await);
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("oidc:jane", "u-1"));
    assert_eq!(user.groups, ["g:a", "g:b", "system:authenticated"]);
    assert_eq!(user.extra["example.com/team"], ["red"]);
    assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], ["JTI=t1"]);
    assert!(!user.extra.contains_key("example.com/none"));
    let with = |name: &str, value: Value| {
        let mut claims = claims(good.clone());
        claims[name] = value;
        claims
    };
    let one = known(place.ask(&key.sign(&with("roles", json!("a"))), 0).await);
    assert_eq!(one.groups, ["g:a", "system:authenticated"]);
    let bad = [
        ("hd", json!("evil.example")),
        ("hd", json!(null)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!(null)),
        ("roles", json!({"a": 1})),
        ("roles", json!([1])),
        ("oid", json!(null)),
        ("aud", json!("elsewhere")),
        ("aud", json!(["x", "y"])),
        ("aud", json!(null)),
        ("exp", json!(START)),
        ("exp", json!("never")),
        ("exp", json!(null)),
        ("nbf", json!(START + 301)),
    ];
    for (claim, value) in bad {
        refusal(place.ask(&key.sign(&with(claim, value.clone())), 0).await);
    }
    for (claim, value) in [("aud", json!(["x", "other"])), ("nbf", json!(START + 299)), ("exp", json!(START + 1))] {
        known(place.ask(&key.sign(&with(claim, value)), 0).await);
    }
}

#[tokio::test]
async fn a_mail_address_counts_only_when_it_is_verified() {
    let text = json!({
        "apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "AuthenticationConfiguration",
        "jwt": [{"issuer": {"url": ISSUER, "audiences": ["kybern"]},
            "claimMappings": {"username": {"claim": "email", "prefix": ""}}}],
    });
    let config: AuthenticationConfiguration = serde_json::from_value(text).expect("a configuration");
    config.check(OWN).expect("a good configuration");
    let (place, key) = (Place::new(config), Key::new("k1"));
    publish(&place.web, &[&key]);
    let mail = |more: Value| {
        let mut claims = claims(json!({"email": "j@example.com"}));
        claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        key.sign(&claims)
    };
    assert_eq!(known(place.ask(&mail(json!({})), 0).await).name, "j@example.com");
    known(place.ask(&mail(json!({"email_verified": true})), 0).await);
    for unverified in [json!(false), json!("true"), json!(null)] {
        refusal(place.ask(&mail(json!({"email_verified": unverified})), 0).await);
    }
}

/// A token with the header of another, or none, and no signature that fits.
fn forged(token: &str, header: Value) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let parts: Vec<&str> = token.split('.').collect();
    format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), parts[1], parts[2])
}

#[tokio::test]
async fn forged_and_foreign_tokens_are_refused() {
    let (place, key, stranger) = (Place::new(config("")), Key::new("k1"), Key::new("k1"));
    publish(&place.web, &[&key]);
    let good = key.sign(&claims(json!({})));
    known(place.ask(&good, 0).await);
    refusal(place.ask(&stranger.sign(&claims(json!({}))), 0).await);
    // none, a shared secret that is the public key, and a kind of signature that the key does not make
    let shared = jsonwebtoken::encode(
        &Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) },
        &claims(json!({})),
        &EncodingKey::from_secret(key.jwk().to_string().as_bytes()),
    );
    refusal(place.ask(&shared.expect("signed"), 0).await);
    for alg in ["none", "HS256", "RS256", "ES384", "EdDSA", "nonsense"] {
        let outcome = place.ask(&forged(&good, json!({"alg": alg, "kid": "k1"})), 0).await;
        assert!(matches!(outcome, Outcome::Rejected(_)), "{alg}: {outcome:?}");
    }
    let unsigned = format!("{}.", good.rsplit_once('.').expect("three parts").0);
    refusal(place.ask(&unsigned, 0).await);
    for cut in (0..good.len()).step_by(7) {
        refusal(place.ask(&good[..cut], 0).await);
    }
    refusal(place.ask(&format!("{good}{}", "A".repeat(20_000)), 0).await);
    // a token of an issuer that nobody named is nobody's, however well it is signed
    refusal(place.ask(&key.sign(&claims(json!({"iss": "https://other.example"}))), 0).await);
}

#[tokio::test]
async fn an_issuer_is_asked_when_it_matters_and_no_more() {
    let (place, first, second) = (Place::new(config("")), Key::new("k1"), Key::new("k2"));
    publish(&place.web, &[&first]);
    let (old, new) = (first.sign(&claims(json!({}))), second.sign(&claims(json!({}))));
    assert_eq!(place.web.asked(), 0, "not before the first token");
    known(place.ask(&old, 0).await);
    assert_eq!(place.web.asked(), 2, "its description and its keys");
    for second in 1..9 {
        known(place.ask(&old, second).await);
        refusal(place.ask(&new, second).await);
    }
    assert_eq!(place.web.asked(), 0, "an unknown key asks at most every ten seconds");
    publish(&place.web, &[&first, &second]);
    known(place.ask(&new, 10).await);
    assert_eq!(place.web.asked(), 2);
    // a key that is withdrawn ends within ten minutes
    publish(&place.web, &[&second]);
    known(place.ask(&old, 30).await);
    refusal(place.ask(&old, 620).await);
    known(place.ask(&new, 620).await);
}

#[tokio::test]
async fn an_issuer_that_is_down_shuts_nobody_out_for_a_day() {
    let (place, key) = (Place::new(config("")), Key::new("k1"));
    let week = key.sign(&claims(json!({"exp": START + 7 * 86_400})));
    refusal(place.ask(&week, 0).await);
    place.web.asked();
    refusal(place.ask(&week, 5).await);
    assert_eq!(place.web.asked(), 0, "it is not asked again at once");
    publish(&place.web, &[&key]);
    known(place.ask(&week, 10).await);
    place.web.put(&format!("{ISSUER}/keys"), Err("connection refused".into()));
    known(place.ask(&week, 3600).await);
    known(place.ask(&week, 86_400).await);
    refusal(place.ask(&week, 86_400 + 11).await);
    publish(&place.web, &[&key]);
    known(place.ask(&week, 86_400 + 30).await);
}

#[tokio::test]
async fn documents_that_lie_are_not_believed() {
    let key = Key::new("k1");
    let token = key.sign(&claims(json!({})));
    let well_known = format!("{ISSUER}/.well-known/openid-configuration");
    let keys = format!("{ISSUER}/keys");
    let mut encrypting = key.jwk();
    encrypting["use"] = "enc".into();
    let mut other_algorithm = key.jwk();
    other_algorithm["alg"] = "ES384".into();
    let cases = [
        (&well_known, json!({"issuer": "https://evil.example", "jwks_uri": keys})),
        (&well_known, json!({"issuer": ISSUER, "jwks_uri": "http://issuer.example/keys"})),
        (&well_known, json!({"issuer": ISSUER})),
        (&well_known, json!([])),
        (&keys, json!({})),
        (&keys, json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}]})),
        (&keys, json!({"keys": [encrypting]})),
        (&keys, json!({"keys": [other_algorithm]})),
        (&keys, json!({"keys": ["rubbish", 1, null, {}]})),
    ];
    for (url, document) in cases {
        let place = Place::new(config(""));
        publish(&place.web, &[&key]);
        place.web.put(url, Ok(document.clone()));
        let outcome = place.ask(&token, 0).await;
        assert!(matches!(outcome, Outcome::Rejected(_)), "{document}: {outcome:?}");
    }
}

/// Part of a configuration, and what is said of it.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("url: https://issuer.example", "url: http://issuer.example", "issuer.url: must begin with https://"),
    ("url: https://issuer.example", "url: https://u@issuer.example", "issuer.url: must not have a user"),
    ("url: https://issuer.example", "url: https://issuer.example?q=1", "issuer.url: must not have a query"),
    ("url: https://issuer.example", "url: https://kubernetes.default.svc.cluster.local", "another issuer has it"),
    ("audiences: [kybern]", "audiences: []", "audiences: at least one"),
    ("audiences: [kybern]", "audiences: [a, b]", "audienceMatchPolicy: must be MatchAny"),
    ("prefix: ''", "", "username.prefix: is required"),
    ("claim: sub, prefix: ''", "expression: 'claims.sub + \"x\"'", "only a claim's path"),
    ("claim: sub, prefix: ''", "", "username: claim or expression is required"),
    ("claim: sub,", "claim: sub, expression: claims.sub,", "can't both be set"),
    ("kind: Auth", "anonymous: { enabled: true }\nkind: Auth", "anonymous: can't be set"),
    ("kind: AuthenticationConfiguration", "kind: Other", "must be AuthenticationConfiguration"),
    ("# more", "userValidationRules: [{ expression: 'true' }]", "userValidationRules: expressions"),
    ("# more", "claimValidationRules: [{ expression: 'true' }]", "claimValidationRules[0]: expressions"),
    ("# more", "claimValidationRules: [{ claim: a }, { claim: a }]", "claimValidationRules[1].claim"),
];

#[test]
fn a_configuration_is_refused_with_the_place_of_its_first_mistake() {
    let good = "apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: { url: https://issuer.example, audiences: [kybern] }
  claimMappings: { username: { claim: sub, prefix: '' } }
  # more";
    let check = |text: &str| match serde_saphyr::from_str::<AuthenticationConfiguration>(text) {
        Ok(config) => config.check(OWN),
        Err(e) => Err(e.to_string()),
    };
    check(good).expect("good");
    for (from, to, said) in MISTAKES {
        assert!(good.contains(from), "{from}");
        let found = check(&good.replace(from, to)).expect_err(to);
        assert!(found.contains(said), "{to}: {found}");
    }
    for key in ["team", "Example.com/team", "kubernetes.io/x", "x.k8s.io/y", "example.com/"] {
        let more = format!(
            "claimMappings: {{ username: {{ claim: sub, prefix: '' }}, extra: [{{ key: {key}, valueExpression: claims.a }}] }}"
        );
        let text = good.replace("claimMappings: { username: { claim: sub, prefix: '' } }", &more);
        assert!(check(&text).expect_err(key).contains("extra[0].key"), "{key}");
    }
    assert!(check(&good.replace("audiences", "audience")).is_err(), "a misspelt field");
}
