//! Validation as data: `cases/*.yaml` hold a good object of a kind, and changes of it with the causes
//! that Kubernetes would answer with.
//!
//! `set` changes what is created, `update` what was created, `expect` are the causes as
//! `field: message` (a message that ends in `...` is a prefix). Pointers are RFC 6901; null removes.

use kybern_api::codec::{self, BodyType, FieldValidation};
use kybern_api::kind::{Context, KindDef};
use kybern_api::{kinds, validate};
use serde_json::Value;
use std::path::Path;

#[derive(serde::Deserialize)]
struct File {
    group: String,
    plural: String,
    base: Value,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    set: Vec<(String, Value)>,
    update: Option<Vec<(String, Value)>>,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    expect: Vec<String>,
}

/// Puts a value where a pointer says; makes the parent objects that are missing.
fn put(tree: &mut Value, pointer: &str, value: &Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let key = key.replace("~1", "/").replace("~0", "~");
    if tree.pointer(parent).is_none_or(Value::is_null) {
        put(tree, parent, &Value::Object(serde_json::Map::new()));
    }
    match tree.pointer_mut(parent) {
        Some(Value::Object(map)) if value.is_null() => drop(map.remove(&key)),
        Some(Value::Object(map)) => drop(map.insert(key, value.clone())),
        Some(Value::Array(list)) => match key.parse::<usize>() {
            Ok(i) if i < list.len() => list[i] = value.clone(),
            _ => list.push(value.clone()),
        },
        _ => panic!("no parent of {pointer}"),
    }
}

/// What the registry does with a body, as far as this crate goes.
fn accept(def: &KindDef, body: &Value, old: Option<&Value>, subresource: &str) -> (Value, Vec<String>) {
    let ctx = Context { def, subresource, now: jiff::Timestamp::UNIX_EPOCH };
    let bytes = body.to_string();
    let decoded = codec::decode_body(BodyType::Json, bytes.as_bytes(), def, &def.served[0], FieldValidation::Strict);
    let mut tree = decoded.unwrap_or_else(|e| panic!("{body}: {e}")).tree;
    def.strategy.prepare(&ctx, &mut tree, old);
    let mut causes = Vec::new();
    // Questions have no name.
    if def.verbs != ["create"] {
        validate::metadata(&ctx, &tree, old, &mut causes);
    }
    def.strategy.validate(&ctx, &tree, old, &mut causes);
    (tree, causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect())
}

/// None when the case holds, else what came instead.
fn failure(def: &KindDef, base: &Value, case: &Case) -> Option<String> {
    let mut body = base.clone();
    case.set.iter().for_each(|(pointer, value)| put(&mut body, pointer, value));
    let (created, mut causes) = accept(def, &body, None, "");
    if let Some(changes) = &case.update {
        if !causes.is_empty() {
            return Some(format!("the object that is updated is bad: {causes:#?}"));
        }
        let mut changed = created.clone();
        changes.iter().for_each(|(pointer, value)| put(&mut changed, pointer, value));
        causes = accept(def, &changed, Some(&created), &case.subresource).1;
    }
    let same = |have: &String, want: &String| match want.strip_suffix("...") {
        Some(prefix) => have.starts_with(prefix),
        None => have == want,
    };
    let fits = causes.len() == case.expect.len() && causes.iter().zip(&case.expect).all(|(h, w)| same(h, w));
    (!fits).then(|| format!("have: {causes:#?}\nwant: {:#?}", case.expect))
}

#[test]
fn cases() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let (mut count, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(directory).expect("the directory of cases") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a file");
        let file: File = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let def = kinds::find(&file.group, &file.plural).expect("a kind");
        for case in &file.cases {
            failures.extend(failure(def, &file.base, case).map(|f| format!("{name}: {}\n{f}", case.name)));
            count += 1;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(count > 100, "{count} cases were found");
}

#[test]
fn defaults_of_every_kind_are_idempotent_and_take_any_shape() {
    for def in kinds::table() {
        for sample in [
            serde_json::json!({"metadata": {"name": "a"}}),
            serde_json::json!({"metadata": {"name": "a"}, "spec": {}, "status": {}}),
            serde_json::json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": [{}]}}, "containers": [{}]}}),
            serde_json::json!({"metadata": 1, "spec": [], "status": "x", "data": 5, "subjects": {}, "ports": "y"}),
            serde_json::json!([]),
        ] {
            let mut once = sample.clone();
            def.strategy.default(&mut once);
            let mut twice = once.clone();
            def.strategy.default(&mut twice);
            assert_eq!(once, twice, "{}", def.kind);
            let ctx = Context { def, subresource: "", now: jiff::Timestamp::UNIX_EPOCH };
            let mut prepared = once.clone();
            def.strategy.prepare(&ctx, &mut prepared, None);
            def.strategy.validate(&ctx, &prepared, None, &mut Vec::new());
            def.strategy.prepare(&ctx, &mut prepared, Some(&once));
            def.strategy.validate(&ctx, &prepared, Some(&once), &mut Vec::new());
            let head = codec::head(def, &once);
            assert_eq!(def.strategy.cells(def, &once, &head, ctx.now).len(), def.columns.len(), "{}", def.kind);
        }
    }
}
