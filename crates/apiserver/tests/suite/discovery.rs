//! Discovery of every served kind against the facts: both forms of the documents, entry by entry.

use kybern_api::kind::{KindDef, Served, Support};
use kybern_api::kinds;
use kybern_testkit::World;
use serde_json::{Value, json};

/// The facts that the table is checked against, too: `group/version plural kind scope verbs |
/// subresources | short names | categories`.
const FACTS: &str = include_str!("../../../api/tests/data/resources.txt");
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A line of the facts.
struct Fact {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    verbs: Vec<&'static str>,
    subresources: Vec<Sub>,
    short_names: Vec<&'static str>,
    categories: Vec<&'static str>,
}

struct Sub {
    name: &'static str,
    /// Group and version of the body's kind, where it is another's.
    elsewhere: Option<(&'static str, &'static str)>,
    kind: &'static str,
    verbs: Vec<&'static str>,
}

fn words(text: &'static str) -> Vec<&'static str> {
    text.split(',').map(str::trim).filter(|w| !w.is_empty()).collect()
}

/// `name=Kind[verbs]` or `name=group/version:Kind[verbs]`.
fn subresource(text: &'static str) -> Sub {
    let (name, rest) = text.split_once('=').expect("a kind");
    let (kind, verbs) = rest.strip_suffix(']').and_then(|r| r.split_once('[')).expect("verbs");
    let (elsewhere, kind) = match kind.split_once(':') {
        Some((api, kind)) => (api.split_once('/'), kind),
        None => (None, kind),
    };
    Sub { name, elsewhere, kind, verbs: words(verbs) }
}

fn facts() -> impl Iterator<Item = Fact> {
    FACTS.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|line| {
        let parts: Vec<&str> = line.split('|').collect();
        let mut head = parts[0].split_whitespace();
        let mut next = || head.next().expect("a word");
        let api = next();
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        Fact {
            group,
            version,
            plural: next(),
            kind: next(),
            namespaced: next() == "namespaced",
            verbs: words(next()),
            subresources: parts[1].split_whitespace().map(subresource).collect(),
            short_names: words(parts[2]),
            categories: words(parts[3]),
        }
    })
}

fn row(fact: &Fact) -> &'static KindDef {
    kinds::find(fact.group, fact.plural).expect(fact.plural)
}

fn names(entry: &mut Value, fact: &Fact) {
    if !fact.short_names.is_empty() {
        entry["shortNames"] = json!(fact.short_names);
    }
    if !fact.categories.is_empty() {
        entry["categories"] = json!(fact.categories);
    }
}

/// What `/apis/GROUP/VERSION` says of a kind.
fn legacy(fact: &Fact) -> Vec<Value> {
    let mut entry = json!({
        "name": fact.plural, "singularName": fact.kind.to_lowercase(), "namespaced": fact.namespaced,
        "kind": fact.kind, "verbs": fact.verbs,
    });
    names(&mut entry, fact);
    let mut entries = vec![entry];
    for Sub { name, elsewhere, kind, verbs } in &fact.subresources {
        let mut entry = json!({
            "name": format!("{}/{name}", fact.plural), "singularName": "", "namespaced": fact.namespaced,
            "kind": kind, "verbs": verbs,
        });
        if let Some((group, version)) = elsewhere {
            entry["group"] = json!(group);
            entry["version"] = json!(version);
        }
        entries.push(entry);
    }
    entries
}

/// What the aggregated document says of it.
fn aggregated(fact: &Fact) -> Value {
    let mut entry = json!({
        "resource": fact.plural, "singularResource": fact.kind.to_lowercase(), "verbs": fact.verbs,
        "responseKind": {"group": fact.group, "version": fact.version, "kind": fact.kind},
        "scope": if fact.namespaced { "Namespaced" } else { "Cluster" },
    });
    names(&mut entry, fact);
    let of = |Sub { name, elsewhere, kind, verbs }: &Sub| {
        let (group, version) = elsewhere.unwrap_or((fact.group, fact.version));
        json!({"subresource": name, "responseKind": {"group": group, "version": version, "kind": kind}, "verbs": verbs})
    };
    if !fact.subresources.is_empty() {
        entry["subresources"] = fact.subresources.iter().map(of).collect();
    }
    entry
}

async fn document(world: &World, path: &str, accept: &str) -> Value {
    let request = http::Request::get(path).header("authorization", "Bearer admin").header("accept", accept);
    let answer = world.http(request.body(bytes::Bytes::new()).expect("a request")).await;
    if answer.code == 200 { answer.json() } else { Value::Null }
}

fn entries<'d>(list: &'d Value, key: &str, is: impl Fn(&str) -> bool) -> Vec<&'d Value> {
    list.as_array().into_iter().flatten().filter(|e| e[key].as_str().is_some_and(&is)).collect()
}

/// Without what is computed of the stored version.
fn without_hash(entry: &Value) -> Value {
    let mut entry = entry.clone();
    entry.as_object_mut().expect("an object").remove("storageVersionHash");
    entry
}

#[tokio::test]
async fn every_served_kind_is_discovered_as_the_facts_say() {
    let world = World::start().await;
    let core = document(&world, "/api", AGGREGATED).await;
    let groups = document(&world, "/apis", AGGREGATED).await;
    let mut served = 0;
    for fact in facts() {
        let path = match fact.group {
            "" => format!("/api/{}", fact.version),
            group => format!("/apis/{group}/{}", fact.version),
        };
        let list = document(&world, &path, "application/json").await;
        let (own, below) = (fact.plural, format!("{}/", fact.plural));
        let found = entries(&list["resources"], "name", |name| name == own || name.starts_with(&below));
        let items = if fact.group.is_empty() { &core["items"] } else { &groups["items"] };
        let group = items
            .as_array()
            .expect("groups")
            .iter()
            .find(|i| i["metadata"]["name"].as_str().unwrap_or("") == fact.group);
        let version = group.and_then(|g| entries(&g["versions"], "version", |v| v == fact.version).first().copied());
        let in_version = version.map(|v| entries(&v["resources"], "resource", |r| r == own)).unwrap_or_default();
        if row(&fact).support == Support::Withheld {
            assert!(found.is_empty() && in_version.is_empty(), "{own} is served");
            continue;
        }
        served += 1;
        let found: Vec<Value> = found.into_iter().map(without_hash).collect();
        assert_eq!(found, legacy(&fact), "{path} {own}");
        assert_eq!(in_version, [&aggregated(&fact)], "{own} {}", fact.version);
        assert_eq!(version.expect("a version")["freshness"], "Current");
    }
    let rows: usize = kinds::table().iter().filter(|d| d.support != Support::Withheld).map(|d| d.served.len()).sum();
    assert_eq!(served, rows, "every served version of a kind has a fact");
}

#[tokio::test]
async fn groups_prefer_the_version_that_kubernetes_prefers() {
    let world = World::start().await;
    let list = document(&world, "/apis", "application/json").await;
    for group in list["groups"].as_array().expect("groups") {
        let name = group["name"].as_str().expect("a name");
        let wanted = match name {
            "autoscaling" => "v2",
            // Another server's in Kubernetes, which has not come further.
            "metrics.k8s.io" => "v1beta1",
            _ => "v1",
        };
        assert_eq!(group["preferredVersion"]["version"], wanted, "{name}");
        assert_eq!(document(&world, &format!("/apis/{name}"), "application/json").await["versions"], group["versions"]);
        let versions = |s: &Served| json!({"groupVersion": format!("{name}/{}", s.version), "version": s.version});
        let rows = kinds::table().iter().cloned().chain(kinds::metrics::rows()).collect::<Vec<_>>();
        let widest = rows.iter().filter(|d| d.group == name).max_by_key(|d| d.served.len());
        let wanted: Vec<Value> = widest.expect("a kind").served.iter().map(versions).collect();
        assert_eq!(group["versions"], json!(wanted));
    }
}
