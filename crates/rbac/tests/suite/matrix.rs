//! Every default ClusterRole x every verb x every resource that is served, against `cases/people.txt` and
//! `cases/system.txt`, which state what Kubernetes publishes about its default roles.

use crate::world::{World, binding, user};
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_rbac::bootstrap::objects;
use kybern_rbac::{Authorizer, Decision, Standard};
use std::collections::{BTreeMap, BTreeSet};

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];
/// Verbs that only a few resources have.
const RARE: [&str; 7] = ["impersonate", "approve", "sign", "bind", "escalate", "proxy", "use"];

/// `GROUP RESOURCE[/SUBRESOURCE][=NAME]`, the core group being empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct What {
    pub group: String,
    pub resource: String,
    name: String,
}

impl What {
    fn read(text: &str) -> Self {
        let (group, rest) = text.trim().split_once(' ').expect("GROUP RESOURCE");
        let (resource, name) = rest.split_once('=').unwrap_or((rest, ""));
        let group = if group == "core" { "" } else { group };
        Self { group: group.into(), resource: resource.into(), name: name.into() }
    }
}

/// Every verb that is asked about.
pub fn verbs() -> impl Iterator<Item = &'static str> {
    READ.into_iter().chain(WRITE).chain(RARE)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty())
}

/// Everything there is to ask for: what the people's table lists, and what the components' table names.
pub fn resources() -> BTreeSet<What> {
    let people =
        lines(include_str!("../../cases/people.txt")).map(|l| What::read(l.split('|').next().expect("a resource")));
    let named = lines(include_str!("../../cases/system.txt"))
        .filter(|l| l.starts_with(' '))
        .map(|l| What::read(l.split('|').next().expect("a resource")))
        .filter(|what| what.group != "*");
    people.chain(named).collect()
}

/// What a role is to allow.
#[derive(Default)]
struct Wanted {
    allowed: BTreeSet<(What, &'static str)>,
    everywhere: BTreeSet<&'static str>,
}

impl Wanted {
    fn allow(&mut self, what: &What, verb: &'static str) {
        if what.group == "*" {
            self.everywhere.insert(verb);
        } else {
            self.allowed.insert((what.clone(), verb));
        }
    }
    fn covers(&self, what: &What, verb: &'static str) -> bool {
        let unnamed = What { name: String::new(), ..what.clone() };
        self.everywhere.contains(verb)
            || self.allowed.contains(&(what.clone(), verb))
            || self.allowed.contains(&(unnamed, verb))
    }
}

fn wanted() -> BTreeMap<String, Wanted> {
    let mut roles: BTreeMap<String, Wanted> = BTreeMap::new();
    for line in lines(include_str!("../../cases/people.txt")) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let what = What::read(columns[0]);
        for (role, letters) in ["view", "edit", "admin"].into_iter().zip(&columns[1..]) {
            let role = roles.entry(role.into()).or_default();
            let of = |letter: char| -> &[&'static str] {
                match letter {
                    'r' => &READ,
                    'w' => &WRITE,
                    'c' => &["create"],
                    'i' => &["impersonate"],
                    '-' => &[],
                    other => panic!("{other} in {line}"),
                }
            };
            letters.chars().flat_map(of).for_each(|verb| role.allow(&what, verb));
        }
    }
    let mut present = String::new();
    for line in lines(include_str!("../../cases/system.txt")) {
        if !line.starts_with(' ') {
            line.clone_into(&mut present);
            roles.entry(present.clone()).or_default();
            continue;
        }
        let (what, allowed) = line.split_once('|').expect("RESOURCE | VERBS");
        let (what, role) = (What::read(what), roles.get_mut(&present).expect("a role first"));
        for word in allowed.split_whitespace() {
            verbs().filter(|v| word == "*" || *v == word).for_each(|verb| role.allow(&what, verb));
        }
    }
    roles
}

/// The question whether `who` may.
pub fn asked(who: &UserInfo, what: &What, verb: &str) -> Attributes {
    let (resource, subresource) = what.resource.split_once('/').unwrap_or((&what.resource, ""));
    Attributes {
        user: who.clone(),
        verb: verb.into(),
        group: what.group.clone(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        name: what.name.clone(),
        namespace: "blue".into(),
        ..Attributes::default()
    }
}

#[test]
fn every_default_role_allows_exactly_what_is_published() {
    let (wanted, resources, all) = (wanted(), resources(), objects(&[]));
    let (mut asked_for, mut wrong) = (0, Vec::new());
    for (role, wanted) in &wanted {
        let (standard, world, who) = (Standard::new(), World::default(), user("u"));
        all.iter().filter(|o| o["kind"] == "ClusterRole").for_each(|o| world.apply(o));
        world.apply(&binding("", "b", &format!("ClusterRole/{role}"), "User:u"));
        for what in &resources {
            for verb in verbs() {
                let decision = standard.authorize(&asked(&who, what, verb), &world);
                let (allowed, should) = (matches!(decision, Decision::Allow(_)), wanted.covers(what, verb));
                asked_for += 1;
                if allowed != should {
                    wrong.push(format!("{role}: {verb} {what:?}: {}", if allowed { "allowed" } else { "refused" }));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked_for} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked_for > 50_000, "only {asked_for} questions were asked");
}

#[test]
fn every_default_cluster_role_of_kubernetes_is_in_the_matrix() {
    let parts = ["system:aggregate-to-", "kybern:"];
    let made: BTreeSet<String> = objects(&[])
        .iter()
        .filter(|o| o["kind"] == "ClusterRole")
        .filter_map(|o| o["metadata"]["name"].as_str().map(str::to_owned))
        .filter(|name| !parts.iter().any(|part| name.starts_with(part)))
        .collect();
    assert_eq!(wanted().into_keys().collect::<BTreeSet<_>>(), made);
}

#[test]
fn every_resource_that_is_served_is_in_the_matrix() {
    let known: BTreeSet<(String, String)> = resources().into_iter().map(|w| (w.group, w.resource)).collect();
    let mut missing = Vec::new();
    for row in kybern_api::kinds::table() {
        let whole = [row.plural.to_string()].into_iter();
        let parts = row.subresources.iter().map(|s| format!("{}/{}", row.plural, s.name));
        for resource in whole.chain(parts).filter(|r| !known.contains(&(row.group.to_string(), r.clone()))) {
            missing.push(format!("{} {resource}", row.group));
        }
    }
    assert!(missing.is_empty(), "say in cases/people.txt who may do what with {missing:?}");
}
