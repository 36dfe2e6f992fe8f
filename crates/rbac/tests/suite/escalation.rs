//! Nobody grants what he does not hold.

use crate::world::{RBAC, World, binding, role, user};
use kybern_rbac::{Authorizer, RoleWrite, Rule, Standard, uncovered};
use serde_json::{Value, json};

fn world() -> World {
    let world = World::default();
    for (name, rule) in [
        ("reader", "get list|core|pods"),
        ("everything", "*|*|*"),
        ("binder", "bind|rbac.authorization.k8s.io|clusterroles"),
        ("escalator", "escalate|rbac.authorization.k8s.io|clusterroles roles"),
    ] {
        world.apply(&role("", name, rule));
        world.apply(&binding("", name, &format!("ClusterRole/{name}"), &format!("User:{name}")));
    }
    world.apply(&role("", "secrets", "get|core|secrets"));
    world.apply(&binding("blue", "local", "ClusterRole/secrets", "User:local"));
    world
}

fn review(who: &str, new: &Value, old: Option<&Value>) -> Result<(), String> {
    let who = user(who);
    let text = |pointer: &str| new.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let resource = format!("{}s", text("/kind").to_lowercase());
    let write = RoleWrite {
        user: &who,
        group: RBAC,
        resource: &resource,
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
        new,
        old,
    };
    Standard::new().review_write(&write, &world())
}

#[test]
fn roles_hold_no_more_than_their_writer() {
    let cases = [
        ("reader", role("", "r", "get|core|pods"), true),
        ("reader", role("", "r", "get list|core|pods"), true),
        ("reader", role("", "r", "get watch|core|pods"), false),
        ("reader", role("", "r", "get|core|pods secrets"), false),
        ("reader", role("", "r", "get|core|pods/log"), false),
        ("reader", role("", "r", "*|core|pods"), false),
        ("reader", role("", "r", "get|*|pods"), false),
        ("reader", role("", "r", "get|core|*"), false),
        ("everything", role("", "r", "*|*|*"), true),
        ("escalator", role("", "r", "*|*|*"), true),
        ("local", role("blue", "r", "get|core|secrets"), true),
        ("local", role("red", "r", "get|core|secrets"), false),
        ("local", role("", "r", "get|core|secrets"), false),
        ("eve,system:masters", role("", "r", "*|*|*"), true),
        ("binder", role("", "r", "get|core|secrets"), false),
    ];
    for (who, role, passes) in cases {
        assert_eq!(review(who, &role, None).is_ok(), passes, "{who}: {role}");
    }
    let text = review("reader", &role("", "r", "get|core|secrets"), None).expect_err("refused");
    assert!(text.contains("is attempting to grant RBAC permissions not currently held:\n"), "{text}");
    assert!(text.contains("Resources:[\"secrets\"]"), "{text}");
}

#[test]
fn bindings_give_no_more_than_their_writer_has() {
    let cases = [
        ("reader", binding("", "b", "ClusterRole/reader", "User:eve"), true),
        ("reader", binding("", "b", "ClusterRole/everything", "User:reader"), false),
        ("reader", binding("red", "b", "ClusterRole/secrets", "User:reader"), false),
        ("local", binding("blue", "b", "ClusterRole/secrets", "User:eve"), true),
        ("local", binding("red", "b", "ClusterRole/secrets", "User:eve"), false),
        ("local", binding("", "b", "ClusterRole/secrets", "User:eve"), false),
        ("binder", binding("", "b", "ClusterRole/everything", "User:binder"), true),
        ("escalator", binding("", "b", "ClusterRole/everything", "User:eve"), false),
        // a role that does not exist yet could hold anything later
        ("everything", binding("", "b", "ClusterRole/later", "User:eve"), true),
        ("reader", binding("", "b", "ClusterRole/later", "User:eve"), false),
    ];
    for (who, binding, passes) in cases {
        assert_eq!(review(who, &binding, None).is_ok(), passes, "{who}: {binding}");
    }
}

#[test]
fn updates_that_grant_nothing_new_pass() {
    let wide = role("", "r", "*|*|*");
    let mut labelled = wide.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    assert!(review("reader", &labelled, Some(&wide)).is_ok());
    assert!(review("reader", &wide, Some(&role("", "r", "get|core|pods"))).is_err());
    let bound = binding("", "b", "ClusterRole/everything", "User:ann");
    let mut labelled = bound.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    assert!(review("reader", &labelled, Some(&bound)).is_ok());
    let mut more = bound.clone();
    more["subjects"].as_array_mut().expect("list").push(json!({ "kind": "User", "name": "reader" }));
    assert!(review("reader", &more, Some(&bound)).is_err(), "one more subject");
}

#[test]
fn aggregation_takes_cluster_admin() {
    let mut role = role("", "r", "get|core|pods");
    role["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": { "x": "y" } }] });
    assert!(review("reader", &role, None).is_err());
    assert!(review("escalator", &role, None).is_ok());
    assert!(review("eve,system:masters", &role, None).is_ok());
    let mut relabelled = role.clone();
    relabelled["metadata"]["labels"] = json!({ "a": "b" });
    assert!(review("reader", &relabelled, Some(&role)).is_ok());
}

#[test]
fn coverage_is_judged_right_by_right() {
    let rule = |verbs: &[&str], resources: &[&str], names: &[&str]| {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        Rule {
            verbs: list(verbs),
            api_groups: vec![String::new()],
            resources: list(resources),
            resource_names: list(names),
            ..Rule::default()
        }
    };
    let urls = |url: &str| Rule { verbs: vec!["get".into()], non_resource_urls: vec![url.into()], ..Rule::default() };
    // two held rules cover one asked rule together
    let held = [rule(&["get"], &["pods"], &[]), rule(&["list"], &["pods"], &[])];
    assert!(uncovered(&[rule(&["get", "list"], &["pods"], &[])], &held).is_empty());
    let cases = [
        (rule(&["get"], &["pods"], &["a"]), rule(&["get"], &["pods"], &[]), true),
        (rule(&["get"], &["pods"], &[]), rule(&["get"], &["pods"], &["a"]), false),
        (rule(&["get"], &["pods"], &["a", "b"]), rule(&["get"], &["pods"], &["a"]), false),
        (rule(&["get"], &["deployments/scale"], &[]), rule(&["get"], &["*/scale"], &[]), true),
        (rule(&["get"], &["*/scale"], &[]), rule(&["get"], &["*/scale"], &[]), true),
        (rule(&["get"], &["*"], &[]), rule(&["get"], &["*/scale"], &[]), false),
        (urls("/healthz/ping"), urls("/healthz/*"), true),
        (urls("/healthz/*"), urls("/healthz/ping"), false),
        (urls("/healthz/*"), urls("*"), true),
        (urls("*"), urls("/*"), false),
    ];
    for (asked, held, covered) in cases {
        assert_eq!(
            uncovered(std::slice::from_ref(&asked), std::slice::from_ref(&held)).is_empty(),
            covered,
            "{asked:?} by {held:?}"
        );
    }
}

#[test]
fn other_kinds_are_not_judged() {
    let who = user("eve");
    let object = json!({ "rules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }] });
    let write = RoleWrite {
        user: &who,
        group: "example.com",
        resource: "roles",
        namespace: "",
        name: "r",
        new: &object,
        old: None,
    };
    assert!(Standard::new().review_write(&write, &world()).is_ok());
}
