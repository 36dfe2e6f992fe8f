//! What objects use of quotas, as data: `quota/cases.yaml`.

use kybern_api::{kinds, quota};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    kind: String,
    object: Value,
    /// The quota that counts; its hard bounds are all names of `counted`, unless given.
    #[serde(default)]
    quota: Value,
    counted: BTreeMap<String, String>,
    unsaid: Option<String>,
}

#[test]
fn cases() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("quota/cases.yaml")).expect("cases");
    for case in cases {
        let def = kinds::by_kind("", &case.kind).expect("a kind");
        let bounds = case.quota.pointer("/spec/hard").cloned().unwrap_or_else(|| {
            let all = quota::usage(def, &case.object).into_keys().map(|name| (name.to_string(), Value::from("1")));
            Value::Object(all.collect())
        });
        let mut spec = case.quota.clone();
        spec["spec"]["hard"] = bounds;
        let quota = quota::Quota::of(&spec);
        let counted = quota.counted(def, &case.object);
        let shown: BTreeMap<String, String> = counted.iter().map(|(n, a)| (n.to_string(), a.to_string())).collect();
        assert_eq!(shown, case.counted, "{}", case.name);
        assert_eq!(def.strategy.unsaid(&case.object, &quota), case.unsaid, "{}", case.name);
    }
}

#[test]
fn counters_hold_cpu_in_thousandths_and_all_else_in_units() {
    let amount = |text: &str| text.parse().expect("a quantity");
    assert_eq!(quota::counter("requests.cpu", amount("1500m")), 1500);
    assert_eq!(quota::counter("memory", amount("1.5")), 2);
    assert_eq!(quota::counter("requests.storage", amount("900Ei")), i64::MAX, "no overflow");
    assert_eq!(quota::of_counter("cpu", 1500, amount("2")).to_string(), "1500m");
    assert_eq!(quota::of_counter("memory", 1 << 30, amount("2Gi")).to_string(), "1Gi");
}
