//! Every served kind by its golden file, `golden/*.yaml`: what its objects become when they are created,
//! what `kubectl get` shows of them, and that protobuf carries them there and back. Its row of discovery is
//! in `data/resources.txt`, what is refused of it in `cases/*.yaml`; a kind that lacks one of them fails.

use kybern_api::codec::{self, BodyType, FieldValidation};
use kybern_api::kind::{Context, KindDef, Served, Support};
use kybern_api::kinds;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(serde::Deserialize)]
struct Golden {
    group: String,
    plural: String,
    /// What is sent, and what is read back: both without kind, apiVersion and, where it does not matter,
    /// metadata.
    #[serde(default)]
    defaulted: Vec<Defaulted>,
    /// Stored objects and their cells, one hour after their creation.
    #[serde(default)]
    rows: Vec<(Value, Vec<Value>)>,
}

#[derive(serde::Deserialize)]
struct Defaulted {
    /// The version that is spoken; the preferred one, if none is said.
    version: Option<String>,
    from: Value,
    to: Value,
}

/// The part of a file of `cases/` that counts here.
#[derive(serde::Deserialize)]
struct Cases {
    group: String,
    plural: String,
    base: Value,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    #[serde(default)]
    expect: Vec<String>,
}

const CREATED: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-01-01T01:00:00Z";

fn read<F: serde::de::DeserializeOwned>(directory: &str) -> Vec<F> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(directory);
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).expect("the directory").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let file = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("a file");
        serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    paths.iter().map(|path| file(path)).collect()
}

fn served() -> impl Iterator<Item = &'static KindDef> {
    kinds::table().iter().filter(|def| def.support != Support::Withheld)
}

fn has_verb(def: &KindDef, verb: &str) -> bool {
    def.verbs.iter().any(|v| v == verb)
}

/// Gives an object the metadata that every object has.
fn named(def: &KindDef, tree: &Value) -> Value {
    let mut tree = tree.clone();
    if tree.get("metadata").is_none() {
        tree["metadata"] =
            if def.namespaced() { json!({"name": "a", "namespace": "default"}) } else { json!({"name": "a"}) };
    }
    tree
}

fn bare(mut tree: Value) -> Value {
    let object = tree.as_object_mut().expect("an object");
    object.remove("kind");
    object.remove("apiVersion");
    tree
}

/// What a create stores of a body, in the stored version.
fn create(def: &KindDef, version: &Served, media: BodyType, bytes: &[u8]) -> Value {
    let decoded = codec::decode_body(media, bytes, def, version, FieldValidation::Strict);
    let mut tree = decoded.unwrap_or_else(|e| panic!("{} {}: {e}", def.kind, String::from_utf8_lossy(bytes))).tree;
    let ctx = Context { def, subresource: "", now: NOW.parse().expect("a time") };
    def.strategy.prepare(&ctx, &mut tree, None);
    tree
}

/// Messages do not tell an empty list from none.
fn without_empty_lists(tree: &Value) -> Value {
    let full = |v: &Value| !v.as_array().is_some_and(Vec::is_empty);
    match tree {
        Value::Array(items) => items.iter().map(without_empty_lists).collect(),
        Value::Object(map) => {
            map.iter().filter(|(_, v)| full(v)).map(|(k, v)| (k.clone(), without_empty_lists(v))).collect()
        }
        other => other.clone(),
    }
}

/// Protobuf of a stored tree, decoded, is the tree.
fn through_protobuf(def: &KindDef, version: &Served, tree: &Value) -> Result<(), String> {
    let complete = codec::served_tree(def, version, tree.clone());
    let bytes = codec::to_protobuf(&complete).map_err(|e| e.to_string())?.ok_or("there is no message")?;
    let back = codec::decode_body(BodyType::Protobuf, &bytes, def, version, FieldValidation::Strict)
        .map_err(|status| status.message)?;
    if back.tree == without_empty_lists(tree) { Ok(()) } else { Err(format!("came back as {}", back.tree)) }
}

#[test]
fn every_served_kind_has_its_files() {
    let golden: Vec<Golden> = read("golden");
    let cases: Vec<Cases> = read("cases");
    let facts = include_str!("data/resources.txt");
    let mut missing = Vec::new();
    for def in served() {
        let name = format!("{}.{}", def.plural, def.group);
        let mut files = golden.iter().filter(|g| g.group == def.group && g.plural == def.plural);
        let (file, more) = (files.next(), files.next());
        if more.is_some() {
            missing.push(format!("{name} has two golden files"));
        }
        let shown = file.is_some_and(|g| !g.rows.is_empty()) || !has_verb(def, "get");
        let versions = file.map_or(0, |g| {
            let spoken = |d: &Defaulted| d.version.clone().unwrap_or_else(|| def.served[0].version.to_string());
            def.served.iter().filter(|s| g.defaulted.iter().any(|d| spoken(d) == s.version)).count()
        });
        let refused = cases
            .iter()
            .any(|c| c.group == def.group && c.plural == def.plural && c.cases.iter().any(|c| !c.expect.is_empty()));
        let own_rules = !NOTHING_TO_REFUSE.contains(&def.kind.as_str());
        for (there, what) in [
            (file.is_some(), "no golden file"),
            (shown, "no row of a table"),
            (versions == def.served.len() || !has_verb(def, "create"), "no defaulted object of a version"),
            (refused || !own_rules, "no case that is refused"),
            (facts.contains(&format!(" {} {} ", def.plural, def.kind)), "no row of discovery"),
        ] {
            if !there {
                missing.push(format!("{name}: {what}"));
            }
        }
    }
    for g in &golden {
        let known = served().any(|def| g.group == def.group && g.plural == def.plural);
        assert!(known, "{} {} is no served kind", g.group, g.plural);
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Questions that are answered whatever they say, and what nobody writes.
const NOTHING_TO_REFUSE: [&str; 4] = ["ComponentStatus", "SelfSubjectReview", "SelfSubjectRulesReview", "TokenReview"];

#[test]
fn objects_are_defaulted_as_the_facts_say() {
    let mut wrong = BTreeMap::new();
    for golden in read::<Golden>("golden") {
        let def = kinds::find(&golden.group, &golden.plural).expect("a kind");
        for case in &golden.defaulted {
            let version = case.version.as_ref().map_or(&def.served[0], |v| def.version(v).expect("a version"));
            let sent = named(def, &case.from);
            let stored = create(def, version, BodyType::Json, sent.to_string().as_bytes());
            let shown = bare(codec::served_tree(def, version, stored.clone()));
            let want = named(def, &case.to);
            if shown != want {
                wrong.insert(format!("{} {}", golden.plural, version.version), format!("have {shown}\nwant {want}"));
            }
            // YAML says the same; what is stored is not defaulted again.
            let yaml = codec::to_yaml(&sent).expect("YAML");
            assert_eq!(create(def, version, BodyType::Yaml, yaml.as_bytes()), stored, "{} as YAML", golden.plural);
            let mut again = stored.clone();
            def.strategy.default(&mut again);
            assert_eq!(again, stored, "{} defaulted twice", golden.plural);
            if let Err(why) = through_protobuf(def, version, &stored) {
                wrong.insert(format!("{} as protobuf", golden.plural), format!("{stored}\n{why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.iter().map(|(k, v)| format!("{k}:\n{v}\n")).collect::<String>());
}

#[test]
fn rows_show_what_the_facts_say() {
    for golden in read::<Golden>("golden") {
        let def = kinds::find(&golden.group, &golden.plural).expect("a kind");
        for (object, cells) in &golden.rows {
            let mut object = object.clone();
            object["metadata"]["name"] = "a".into();
            object["metadata"]["creationTimestamp"] = CREATED.into();
            let head = codec::head(def, &object);
            let have = def.strategy.cells(def, &object, &head, NOW.parse().expect("a time"));
            assert_eq!(&have, cells, "{} {object}", golden.plural);
        }
    }
}

#[test]
fn protobuf_carries_every_accepted_object() {
    let mut count = 0;
    for file in read::<Cases>("cases") {
        let def = kinds::find(&file.group, &file.plural).expect("a kind");
        let stored = create(def, &def.served[0], BodyType::Json, file.base.to_string().as_bytes());
        if let Err(why) = through_protobuf(def, &def.served[0], &stored) {
            panic!("{} {stored}: {why}", file.plural);
        }
        count += 1;
    }
    assert!(count > 40, "{count}");
}
