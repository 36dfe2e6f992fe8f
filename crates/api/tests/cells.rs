//! Table cells as data: objects and what `kubectl get` shows of them.

use kybern_api::{codec, kinds};
use serde_json::Value;

#[derive(serde::Deserialize)]
struct Case {
    group: String,
    plural: String,
    obj: Value,
    cells: Vec<Value>,
}

/// One hour after the objects' creation.
const NOW: &str = "2026-01-01T01:00:00Z";

#[test]
fn cells() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("cells/cells.yaml")).expect("the cases");
    assert!(cases.len() > 25);
    for Case { group, plural, mut obj, cells } in cases {
        let def = kinds::find(&group, &plural).expect(&plural);
        obj["metadata"]["name"] = "a".into();
        obj["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let head = codec::head(def, &obj);
        let have = def.strategy.cells(def, &obj, &head, NOW.parse().expect("a time"));
        assert_eq!(have, cells, "{plural} {obj}");
    }
}
