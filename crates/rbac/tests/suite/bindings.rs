//! Roles and bindings as the index answers for them.

use crate::world::{LISTS, RBAC, World, ask, binding, role, user};
use kybern_rbac::{Authorizer, Decision, Standard};
use serde_json::json;

fn allowed(standard: &Standard, world: &World, who: &str, what: &str) -> bool {
    matches!(standard.authorize(&ask(&user(who), what), world), Decision::Allow(_))
}

fn three_ways() -> World {
    let world = World::default();
    world.apply(&role("", "reader", "get list|core|pods"));
    world.apply(&role("blue", "reader", "get list|core|secrets"));
    world.apply(&binding("", "all", "ClusterRole/reader", "User:ann"));
    world.apply(&binding("blue", "some", "ClusterRole/reader", "Group:team"));
    world.apply(&binding("blue", "own", "Role/reader", "ServiceAccount:tools:bot"));
    world
}

#[test]
fn the_three_ways_of_binding() {
    let (standard, world) = (Standard::new(), three_ways());
    let bot = "system:serviceaccount:tools:bot";
    for (who, what, expected) in [
        // ClusterRole by ClusterRoleBinding: everywhere
        ("ann", "list blue - pods", true),
        ("ann", "list - - pods", true),
        ("ann", "list blue - secrets", false),
        // ClusterRole by RoleBinding: there
        ("bob,team", "list blue - pods", true),
        ("bob,team", "list red - pods", false),
        ("bob,team", "list - - pods", false),
        ("team", "list blue - pods", false),
        // Role by RoleBinding: there
        (bot, "get blue - secrets x", true),
        (bot, "get red - secrets x", false),
        (bot, "get blue - pods x", false),
        ("bot", "get blue - secrets x", false),
        ("eve,system:masters", "frobnicate - any things", true),
        ("eve,system:masters", "get /metrics", true),
        ("system:masters", "get - - pods", false),
        ("eve", "get /metrics", false),
        ("", "get blue - pods", false),
    ] {
        assert_eq!(allowed(&standard, &world, who, what), expected, "{who}: {what}");
    }
}

#[test]
fn an_answer_reflects_every_change_at_once_and_rebuilds_only_then() {
    let (standard, world) = (Standard::new(), three_ways());
    let may = |what: &str| allowed(&standard, &world, "ann", what);
    assert!(may("list blue - pods"));
    LISTS.set(0);
    assert!(may("get - - pods x") && !may("watch - - pods"));
    assert_eq!(LISTS.get(), 0, "answered from the index");
    world.apply(&role("", "reader", "watch|core|pods"));
    assert!(may("watch - - pods") && !may("list - - pods"));
    assert_eq!(LISTS.get(), 1, "only what has changed is listed");
    world.remove(RBAC, "clusterroles", "", "reader");
    assert!(!may("watch - - pods"));
    world.apply(&role("", "reader", "watch|core|pods"));
    assert!(may("watch - - pods"), "a binding waits for its role");
    world.remove(RBAC, "clusterrolebindings", "", "all");
    assert!(!may("watch - - pods"));
}

/// Whatever changes, an index that saw all of it answers as one that sees only the result.
#[test]
fn an_index_that_is_kept_answers_like_a_new_one() {
    let (kept, world) = (Standard::new(), World::default());
    let (scopes, names) = (["", "blue", "red"], ["a", "b"]);
    // A fixed sequence that touches every kind of object in every scope.
    let mut random = 7u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for step in 0..400 {
        let (scope, name) = (scopes[draw(3) as usize], names[draw(2) as usize]);
        let (subject, verb) = (["User:ann", "Group:team"][draw(2) as usize], ["get", "list"][draw(2) as usize]);
        let kind = ["Role", "ClusterRole"][draw(2) as usize];
        let prefix = if scope.is_empty() { "cluster" } else { "" };
        match draw(6) {
            0 => world.remove(RBAC, &format!("{prefix}roles"), scope, name),
            1 => world.remove(RBAC, &format!("{prefix}rolebindings"), scope, name),
            2 | 3 => world.apply(&role(scope, name, &format!("{verb}|core|pods"))),
            _ => world.apply(&binding(scope, name, &format!("{kind}/{}", names[draw(2) as usize]), subject)),
        }
        let new = Standard::new();
        for who in ["ann", "bob,team"] {
            for what in
                ["get blue - pods x", "list blue - pods", "get red - pods x", "list red - pods", "list - - pods"]
            {
                let (old, new) = (allowed(&kept, &world, who, what), allowed(&new, &world, who, what));
                assert_eq!(old, new, "after step {step}: {who}: {what}");
            }
        }
    }
}

#[test]
fn malformed_objects_grant_nothing_and_break_nothing() {
    let (standard, world) = (Standard::new(), three_ways());
    world.put(RBAC, "clusterroles", "", "odd", json!({ "rules": [{ "verbs": 7 }] }));
    world.put(
        RBAC,
        "clusterrolebindings",
        "",
        "odd",
        json!({ "roleRef": "x", "subjects": [{ "kind": "User", "name": "eve" }] }),
    );
    world.apply(&binding("", "stray", "Role/reader", "User:eve"));
    world.put(
        RBAC,
        "clusterrolebindings",
        "",
        "nobody",
        json!({ "roleRef": { "kind": "ClusterRole", "name": "reader" } }),
    );
    assert!(allowed(&standard, &world, "ann", "list blue - pods"));
    assert!(!allowed(&standard, &world, "eve", "list blue - pods"));
}

#[test]
fn only_what_was_not_asked_is_given_as_a_reason() {
    let (standard, world) = (Standard::new(), three_ways());
    let decide = |who: &str, what: &str| standard.authorize(&ask(&user(who), what), &world);
    // The API server says what was asked; `kubectl auth can-i` then prints a bare "no".
    assert_eq!(decide("x", "list default - pods"), Decision::NoOpinion(String::new()));
    assert_eq!(decide("x", "get /metrics"), Decision::NoOpinion(String::new()));
    assert_eq!(
        decide("bob,team", "list blue - pods"),
        Decision::Allow("RBAC: allowed by RoleBinding \"some/blue\" of ClusterRole \"reader\"".into())
    );
}

#[test]
fn rules_review_lists_what_is_held_there() {
    let (standard, world) = (Standard::new(), three_ways());
    let rules = |who: &str, ns: &str| standard.rules_for(&user(who), ns, &world);
    assert_eq!(
        rules("bob,team", "blue"),
        json!({
            "resourceRules": [{ "verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": [] }],
            "nonResourceRules": [], "incomplete": false,
        })
    );
    assert_eq!(rules("bob,team", "red")["resourceRules"], json!([]));
    assert_eq!(rules("eve,system:masters", "red")["nonResourceRules"][0]["nonResourceURLs"], json!(["*"]));
    assert_eq!(rules("system:node:n,system:nodes", "red")["incomplete"], json!(true));
}

#[test]
fn ten_thousand_bindings_are_found_by_subject() {
    let world = World::default();
    world.apply(&role("", "reader", "get|core|pods"));
    for index in 0..10_000 {
        let namespace = format!("ns{}", index % 100);
        world.apply(&binding(&namespace, &format!("b{index}"), "ClusterRole/reader", &format!("User:u{index}")));
    }
    let standard = Standard::new();
    assert!(allowed(&standard, &world, "u4242", "get ns42 - pods"));
    assert!(!allowed(&standard, &world, "u4242", "get ns43 - pods"));
}
