//! Service-account tokens, bootstrap tokens and join tokens: good, forged, expired, orphaned.

use crate::support::{Cluster, START, World, at, known, refusal};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::SignedDuration;
use kybern_api::attributes::UserInfo;
use kybern_api::seam::SystemIds;
use kybern_authn::issuer::{BoundRef, Issuer, KubernetesClaim, TokenSpec};
use kybern_authn::join::{JoinToken, Role};
use kybern_authn::pki::ClusterKeys;
use kybern_authn::{Assembly, Authenticator, Outcome, TokenConfig};
use serde_json::{Value, json};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn claim() -> KubernetesClaim {
    let bound = |name: &str| Some(BoundRef { name: name.into(), uid: format!("{name}-uid") });
    KubernetesClaim {
        namespace: "ns".into(),
        serviceaccount: BoundRef { name: "web".into(), uid: "web-uid".into() },
        pod: bound("pod"),
        node: bound("node"),
        secret: None,
    }
}

/// A cluster with everything that [`claim`] binds to.
fn cluster() -> Cluster {
    let cluster = Cluster::new();
    populate(&cluster.world);
    cluster
}

fn populate(world: &World) {
    world.put("serviceaccounts", "ns", "web", "web-uid", None, "{}");
    world.put("pods", "ns", "pod", "pod-uid", None, "{}");
    world.put("nodes", "", "node", "node-uid", None, "{}");
}

fn mint(issuer: &Issuer, audiences: &[String], lifetime: SignedDuration) -> String {
    let spec = TokenSpec { claim: claim(), audiences, lifetime };
    issuer.mint(&spec, &SystemIds, at(0)).expect("minted").token
}

fn absence(outcome: Outcome) -> String {
    match outcome {
        Outcome::Absent(why) => why,
        other => panic!("expected an absence, got {other:?}"),
    }
}

#[test]
fn a_token_is_good_for_the_audiences_that_it_names() {
    let cluster = cluster();
    let vault = vec!["vault".to_owned()];
    let token = mint(&cluster.assembly.issuer, &vault, HOUR);
    assert!(refusal(cluster.bearer(&token, 1)).contains("another audience"));
    let ask = |token: &str, audiences: &[String]| {
        let credentials =
            kybern_authn::Credentials { bearer: Some(token), audiences, now: START + 1, ..Default::default() };
        cluster.assembly.authenticator.authenticate(&credentials, &cluster.world)
    };
    assert_eq!(known(ask(&token, &vault)).name, "system:serviceaccount:ns:web");
    refusal(ask(&token, &["other".to_owned()]));
    bootstrap_secret(
        &cluster.world,
        "bootstrap.kubernetes.io/token",
        &[("token-id", "abcdef"), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-authentication", "true")],
    );
    known(ask("abcdef.0123456789abcdef", &[]));
    refusal(ask("abcdef.0123456789abcdef", &vault));
}

#[test]
fn a_bound_token_names_its_account_pod_and_node() {
    let cluster = cluster();
    let token = mint(&cluster.assembly.issuer, &[], HOUR);
    let user = known(cluster.bearer(&token, 1));
    assert_eq!(user.name, "system:serviceaccount:ns:web");
    assert_eq!(user.uid, "web-uid");
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    let extra = |key: &str| user.extra[&format!("authentication.kubernetes.io/{key}")][0].clone();
    assert_eq!((extra("pod-name"), extra("pod-uid")), ("pod".into(), "pod-uid".into()));
    assert_eq!((extra("node-name"), extra("node-uid")), ("node".into(), "node-uid".into()));
    assert!(extra("credential-id").starts_with("JTI="));
    assert_eq!(known(cluster.bearer(&token, 2)), user, "the remembered answer is the same");
}

#[test]
fn lifetimes_keep_their_bounds_also_when_remembered() {
    let cluster = cluster();
    for (asked, lives) in [(1, 600), (600, 600), (3607, 3607), (10 * 365 * 86_400, 365 * 86_400)] {
        let token = mint(&cluster.assembly.issuer, &[], SignedDuration::from_secs(asked));
        known(cluster.bearer(&token, lives - 1));
        assert!(refusal(cluster.bearer(&token, lives)).contains("expired"), "asked for {asked}");
        known(cluster.bearer(&token, -59));
        assert!(refusal(cluster.bearer(&token, -61)).contains("not valid yet"), "asked for {asked}");
    }
}

#[test]
fn a_token_dies_with_what_it_is_bound_to() {
    for (resource, namespace, name) in [("serviceaccounts", "ns", "web"), ("pods", "ns", "pod"), ("nodes", "", "node")]
    {
        let cluster = cluster();
        let token = mint(&cluster.assembly.issuer, &[], HOUR);
        known(cluster.bearer(&token, 1));
        cluster.world.put(resource, namespace, name, "another-uid", None, "{}");
        assert!(absence(cluster.bearer(&token, 1)).contains("gone"), "{resource} replaced");
        cluster.world.put(resource, namespace, name, &format!("{name}-uid"), Some(START + 10), "{}");
        known(cluster.bearer(&token, 70));
        assert!(refusal(cluster.bearer(&token, 71)).contains("gone"), "{resource} long deleted");
        cluster.world.remove(resource, namespace, name);
        assert!(absence(cluster.bearer(&token, 1)).contains("gone"), "{resource} removed");
    }
}

#[test]
fn audiences_are_kept_apart() {
    let cluster = cluster();
    let tokens = &cluster.assembly.tokens;
    let vault = ["vault".to_owned()];
    let token = mint(&cluster.assembly.issuer, &vault, HOUR);
    assert!(refusal(cluster.bearer(&token, 1)).contains("audience"));
    let identity =
        tokens.review(&token, &["x".to_owned(), "vault".to_owned()], START + 1, &cluster.world).expect("good");
    assert_eq!(identity.audiences, vault);
    let ours = mint(&cluster.assembly.issuer, &[], HOUR);
    assert!(tokens.review(&ours, &vault, START + 1, &cluster.world).is_err());
}

/// A token with its header or payload changed and the old signature kept.
fn forge(token: &str, change: impl Fn(&mut Value, &mut Value)) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let decode =
        |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON") };
    let (mut header, mut payload) = (decode(parts[0]), decode(parts[1]));
    change(&mut header, &mut payload);
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}.{}", encode(&header), encode(&payload), parts[2])
}

#[test]
fn forged_tokens_are_refused() {
    let cluster = cluster();
    let token = mint(&cluster.assembly.issuer, &[], HOUR);
    let foreign_keys = ClusterKeys::create(at(0)).expect("keys");
    let foreign = Assembly::new(&foreign_keys, &TokenConfig::for_domain("cluster.local")).expect("assembly");
    let other_issuer = Assembly::new(&cluster.keys, &TokenConfig::for_domain("other.local")).expect("assembly");
    let signature = token.rsplit('.').next().expect("parts").to_owned();
    let public = cluster.assembly.issuer.jwks().expect("jwks")["keys"][0].to_string();
    // the classic: HMAC with the public key as its secret
    let confused = {
        let body = forge(&token, |header, _| header["alg"] = "HS256".into());
        let signed = body.rsplit_once('.').expect("parts").0.to_owned();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
    };
    let cases = [
        ("another cluster's key", mint(&foreign.issuer, &[], HOUR)),
        ("our key under another issuer", mint(&other_issuer.issuer, &[], HOUR)),
        ("alg none", forge(&token, |header, _| header["alg"] = "none".into())),
        ("alg none without a signature", forge(&token, |h, _| h["alg"] = "none".into()).replace(&signature, "")),
        ("algorithm confusion", confused),
        ("RS256 on an EC key", forge(&token, |header, _| header["alg"] = "RS256".into())),
        ("unknown kid", forge(&token, |header, _| header["kid"] = "x".into())),
        (
            "another subject",
            forge(&token, |_, claims| claims["sub"] = "system:serviceaccount:kube-system:admin".into()),
        ),
        ("a longer life", forge(&token, |_, claims| claims["exp"] = (START + 1_000_000).into())),
        ("no claims", forge(&token, |_, claims| *claims = json!({}))),
        ("truncated", token[..token.len() - 1].to_owned()),
        ("without a signature", token.rsplit_once('.').expect("parts").0.to_owned() + "."),
        ("four parts", format!("{token}.x")),
        ("huge", format!("{token}{}", "A".repeat(1 << 20))),
        ("not base64", token.replace('.', ".!")),
        ("empty", String::new()),
        ("dots", "..".into()),
    ];
    for (what, forged) in cases {
        assert_ne!(forged, token, "{what}");
        refusal(cluster.bearer(&forged, 1));
    }
    known(cluster.bearer(&token, 1));
}

#[test]
fn every_flipped_bit_of_a_token_is_noticed() {
    let cluster = cluster();
    let token = mint(&cluster.assembly.issuer, &[], HOUR);
    for index in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        // another letter of base64's alphabet
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        // the last letter of the signature has bits that decode to nothing
        if index + 1 < token.len() {
            refusal(cluster.bearer(&changed, 1));
        }
    }
}

#[test]
fn keys_rotate_live_and_rsa_keys_work() {
    let cluster = cluster();
    let old = mint(&cluster.assembly.issuer, &[], HOUR);
    known(cluster.bearer(&old, 1));
    let config = TokenConfig::for_domain("cluster.local");
    let rsa = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output()
        .expect("openssl runs");
    let rsa = String::from_utf8(rsa.stdout).expect("PEM");
    let both = [rsa.clone(), cluster.keys.service_account.0[0].clone()];
    let next = Issuer::new(&config.issuer, &config.audiences, &both).expect("issuer");
    cluster.assembly.tokens.set_issuer(&next).expect("set");
    let new = mint(&next, &[], HOUR);
    known(cluster.bearer(&old, 1));
    known(cluster.bearer(&new, 1));
    let keys = next.jwks().expect("jwks");
    let kinds: Vec<&str> = keys["keys"].as_array().expect("keys").iter().filter_map(|k| k["kty"].as_str()).collect();
    assert_eq!(kinds, ["RSA", "EC"]);
    let last = Issuer::new(&config.issuer, &config.audiences, &[rsa]).expect("issuer");
    cluster.assembly.tokens.set_issuer(&last).expect("set");
    refusal(cluster.bearer(&old, 1));
    known(cluster.bearer(&new, 1));
}

#[test]
fn published_keys_verify_what_is_minted() {
    let cluster = cluster();
    let token = mint(&cluster.assembly.issuer, &[], HOUR);
    let document: jsonwebtoken::jwk::JwkSet =
        serde_json::from_value(cluster.assembly.issuer.jwks().expect("jwks")).expect("a JWK set");
    let header = jsonwebtoken::decode_header(&token).expect("header");
    let jwk = document.find(&header.kid.expect("kid")).expect("published");
    let key = jsonwebtoken::DecodingKey::from_jwk(jwk).expect("a key");
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.validate_exp = false;
    validation.set_audience(&["https://kubernetes.default.svc.cluster.local"]);
    let claims: Value = jsonwebtoken::decode(&token, &key, &validation).expect("verified").claims;
    assert_eq!(claims["sub"], "system:serviceaccount:ns:web");
    let discovery = cluster.assembly.issuer.discovery("https://10.0.0.1:6443/openid/v1/jwks");
    assert_eq!(discovery["issuer"], claims["iss"]);
    assert_eq!(discovery["id_token_signing_alg_values_supported"], json!(["ES256"]));
}

/// Puts a bootstrap token's Secret with these plain values into the world.
fn bootstrap_secret(world: &World, kind: &str, values: &[(&str, &str)]) {
    let data: serde_json::Map<String, Value> =
        values.iter().map(|(k, v)| ((*k).to_owned(), STANDARD.encode(v).into())).collect();
    let body = json!({ "type": kind, "data": data }).to_string();
    world.put("secrets", "kube-system", "bootstrap-token-abcdef", "u", None, &body);
}

#[test]
fn bootstrap_tokens_follow_their_secret() {
    const TOKEN: &str = "abcdef.0123456789abcdef";
    const KIND: &str = "bootstrap.kubernetes.io/token";
    let good = [
        ("token-id", "abcdef"),
        ("token-secret", "0123456789abcdef"),
        ("usage-bootstrap-authentication", "true"),
        ("auth-extra-groups", "system:bootstrappers:workers"),
        ("expiration", "2027-01-15T09:00:00Z"), // an hour after the start
    ];
    let with = |key: &'static str, value: Option<&'static str>| {
        let mut list: Vec<(&str, &str)> = good.iter().copied().filter(|(k, _)| *k != key).collect();
        list.extend(value.map(|v| (key, v)));
        list
    };
    let cases = [
        ("as it should be", KIND, good.to_vec(), true),
        ("without expiration", KIND, with("expiration", None), true),
        ("without groups", KIND, with("auth-extra-groups", None), true),
        ("expired", KIND, with("expiration", Some("2027-01-15T08:00:00Z")), false),
        ("expiration is no time", KIND, with("expiration", Some("tomorrow")), false),
        ("another secret", KIND, with("token-secret", Some("0123456789abcdeg")), false),
        ("empty secret", KIND, with("token-secret", None), false),
        ("another id", KIND, with("token-id", Some("abcdeg")), false),
        ("not for authentication", KIND, with("usage-bootstrap-authentication", None), false),
        ("usage is not true", KIND, with("usage-bootstrap-authentication", Some("yes")), false),
        ("a group outside", KIND, with("auth-extra-groups", Some("system:masters")), false),
        ("a group that only looks inside", KIND, with("auth-extra-groups", Some("system:bootstrappersx")), false),
        (
            "one good and one bad group",
            KIND,
            with("auth-extra-groups", Some("system:bootstrappers:a,system:nodes")),
            false,
        ),
        ("another type of Secret", "Opaque", good.to_vec(), false),
    ];
    for (what, kind, values, passes) in cases {
        let cluster = Cluster::new();
        bootstrap_secret(&cluster.world, kind, &values);
        let outcome = cluster.bearer(TOKEN, 10);
        assert_eq!(matches!(outcome, Outcome::Known(_)), passes, "{what}: {outcome:?}");
        if passes {
            let user = known(outcome);
            assert_eq!(user.name, "system:bootstrap:abcdef");
            assert_eq!(user.groups[0], "system:bootstrappers");
        } else {
            assert!(matches!(outcome, Outcome::Rejected(_)), "{what}");
        }
    }
    let cluster = Cluster::new();
    absence(cluster.bearer(TOKEN, 10));
    bootstrap_secret(&cluster.world, KIND, &good);
    for wrong in
        ["abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", "abcdef0123456789abcdef", "../../.0123456789abcdef"]
    {
        refusal(cluster.bearer(wrong, 10));
    }
}

#[test]
fn join_tokens_carry_pin_role_and_lifetime() {
    let cluster = Cluster::new();
    for (role, other) in [(Role::Server, Role::Agent), (Role::Agent, Role::Server)] {
        let token = JoinToken::generate(cluster.keys.server_ca.der()).expect("token");
        let text = token.to_string();
        assert_eq!(text.parse::<JoinToken>().expect("parsed"), token);
        assert!(text.starts_with(&format!("K10{}::", cluster.keys.server_ca.fingerprint())));
        assert!(!format!("{token:?}").contains(token.bearer().split_once('.').expect("parts").1));
        let secret = token.to_secret(role, Some(at(3600)), "test");
        let name = secret["metadata"]["name"].as_str().expect("name").to_owned();
        cluster.world.put("secrets", "kube-system", &name, "u", None, &secret.to_string());
        let user = known(cluster.bearer(&token.bearer(), 1));
        assert_eq!(Role::of(&user), Some(role));
        assert!(!user.is_in(other.group()));
        refusal(cluster.bearer(&token.bearer(), 3600));
    }
    let pretender = UserInfo { groups: vec![Role::Server.group().into()], ..UserInfo::default() };
    assert_eq!(Role::of(&pretender), None, "the group alone does not make a joining server");
}

#[test]
fn malformed_join_tokens_are_refused_with_a_reason() {
    let hash = "ab".repeat(32);
    let good = format!("K10{hash}::abcdef.0123456789abcdef");
    good.parse::<JoinToken>().expect("good");
    for bad in [
        "",
        "K10",
        "abcdef.0123456789abcdef",
        &good.replace("::", ":"),
        &good.replace("K10", "K11"),
        &good.replace("abab", "ab"),
        &good.replace("abab", "zzzz"),
        &good.replace("abcdef", "abcde"),
        &good.replace("0123456789abcdef", "0123456789ABCDEF"),
        &format!("{good}x"),
    ] {
        let error = bad.parse::<JoinToken>().expect_err(bad).to_string();
        assert!(error.starts_with("malformed join token: "), "{error}");
        assert!(!error.contains("0123456789"), "the secret is not repeated: {error}");
    }
}

#[test]
fn a_bad_credential_is_refused_where_none_would_pass() {
    let cluster = Cluster::new();
    // `bearer` asks for /healthz, which needs no credential
    refusal(cluster.bearer("rubbish", 1));
}
