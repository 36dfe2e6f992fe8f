//! The table against the facts: what a default Kubernetes serves, and what kubectl shows of it.

use kybern_api::kind::{KindDef, Scope, Subresource};
use kybern_api::kinds;
use std::collections::{BTreeMap, BTreeSet};

const RESOURCES: &str = include_str!("data/resources.txt");
const COLUMNS: &str = include_str!("data/columns.txt");

fn facts(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'))
}

fn sorted<S: AsRef<str>>(words: &[S]) -> String {
    let mut words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    words.sort_unstable();
    words.join(",")
}

/// `name=Kind[verbs]`, with the group and version of a body from elsewhere.
fn subresource(def: &KindDef, s: &Subresource) -> String {
    let own = s.group == def.group && s.version == def.served[0].version;
    let kind = if own { s.kind.to_string() } else { format!("{}/{}:{}", s.group, s.version, s.kind) };
    format!("{}={kind}[{}]", s.name, sorted(&s.verbs))
}

/// A row as a line of the facts.
fn line(def: &KindDef, version: &str) -> String {
    let api_version = if def.group.is_empty() { version.to_owned() } else { format!("{}/{version}", def.group) };
    let scope = if def.scope == Scope::Namespaced { "namespaced" } else { "cluster" };
    let mut subresources: Vec<String> = def.subresources.iter().map(|s| subresource(def, s)).collect();
    subresources.sort();
    let words = |w: &[smol_str::SmolStr]| w.join(",");
    format!(
        "{api_version} {} {} {scope} {} | {} | {} | {}",
        def.plural,
        def.kind,
        sorted(&def.verbs),
        subresources.join(" "),
        words(&def.short_names),
        words(&def.categories)
    )
}

#[test]
fn every_row_equals_its_fact_and_every_fact_has_a_row() {
    let want: BTreeSet<String> = facts(RESOURCES).map(|l| l.trim_end().to_owned()).collect();
    let have: BTreeSet<String> = kinds::table()
        .iter()
        .flat_map(|d| d.served.iter().map(|s| line(d, &s.version).trim_end().to_owned()))
        .collect();
    let missing: Vec<_> = want.difference(&have).collect();
    let wrong: Vec<_> = have.difference(&want).collect();
    assert!(missing.is_empty() && wrong.is_empty(), "missing: {missing:#?}\nwrong: {wrong:#?}");
}

#[test]
fn columns_equal_the_facts() {
    for fact in facts(COLUMNS) {
        let (resource, want) = fact.split_once(' ').expect("a resource and its columns");
        let (plural, group) = resource.split_once('@').expect("plural@group");
        let def = kinds::find(group, plural).expect(resource);
        let have: Vec<String> =
            def.columns.iter().map(|c| format!("{}/{}/{}/{}", c.name, c.kind, c.format, c.priority)).collect();
        assert_eq!(have.join("; "), want, "{resource}");
        assert!(def.columns.iter().all(|c| !c.description.is_empty()), "{resource} has a column without help");
    }
}

#[test]
fn names_are_unique() {
    let mut seen = BTreeMap::new();
    for def in kinds::table() {
        let names = [&def.plural, &def.singular].into_iter().chain(&def.short_names);
        for name in names.collect::<BTreeSet<_>>() {
            let other = seen.insert((def.group.clone(), name.clone()), def.kind.clone());
            assert_eq!(other, None, "{name} in group {:?} is {} too", def.group, def.kind);
        }
    }
}

#[test]
fn lookups_find_every_row() {
    for def in kinds::table() {
        assert_eq!(kinds::find(&def.group, &def.plural).map(|d| &d.kind), Some(&def.kind));
        assert_eq!(kinds::by_kind(&def.group, &def.kind).map(|d| &d.plural), Some(&def.plural));
        assert!(def.stored < def.served.len());
        if let Some((group, plural)) = &def.storage {
            let store = kinds::find(group, plural).expect("the storing row exists");
            assert_eq!(store.storage, None, "{} is stored by a row that stores elsewhere", def.kind);
            let sources = |d: &KindDef| d.selectable.iter().map(|s| s.source.clone()).collect::<Vec<_>>();
            assert!(
                sources(store).starts_with(&sources(def)),
                "{}: heads hold the storing row's fields, in its order",
                def.kind
            );
        }
    }
    assert!(kinds::find("apps", "pods").is_none());
}

#[test]
fn prefixes_and_definitions_follow_the_version() {
    let def = kinds::find("apps", "deployments").expect("deployments");
    assert_eq!(&*def.served[0].prefix, r#"{"kind":"Deployment","apiVersion":"apps/v1","#);
    assert_eq!(def.served[0].schema, "io.k8s.api.apps.v1.Deployment");
    for def in kinds::table() {
        for served in &def.served {
            assert!(kybern_api::schema::node(&served.schema).is_some(), "no schema {}", served.schema);
        }
    }
    let role = kinds::find("rbac.authorization.k8s.io", "roles").expect("roles");
    assert_eq!(role.served[0].schema, "io.k8s.api.rbac.v1.Role");
}
