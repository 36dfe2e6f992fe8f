//! Cases in `cases/*.yaml`: a world and a key in, the plan's steps out, for every controller of the
//! table by name.

use crate::controllers::{Settings, table};
use crate::metrics::{Metrics, Named, NoMetrics, Sample};
use crate::{CertificateSigner, rows};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use kybern_api::meta::selector::Selector;
use kybern_api::seam::FixedClock;
use kybern_client::store::{Item, Store};
use kybern_client::transport::Resource;
use kybern_reconcile::def::{ControllerDef, Key};
use kybern_reconcile::plan::describe;
use kybern_reconcile::steady::Steady;
use kybern_reconcile::view::{Source, View, World};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Cases of one file: all about one controller.
#[derive(Deserialize)]
struct File {
    controller: String,
    /// Objects that every case has.
    #[serde(default)]
    world: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    /// `name`, `namespace/name` or `kind namespace/name`.
    key: String,
    /// Seconds after 2030-01-01T00:00:00Z; leases have been seen at 0.
    #[serde(default)]
    at: i64,
    #[serde(default)]
    failure: Option<String>,
    #[serde(default)]
    world: Vec<Value>,
    /// JSON merge patches of objects of the file's world, by `kind name`.
    #[serde(default)]
    with: BTreeMap<String, Value>,
    /// Objects of the file's world that are not there, by `kind name`.
    #[serde(default)]
    without: Vec<String>,
    /// What the metrics say: `resource`, `pods` (thousandths by metric and pod), `object` (by metric),
    /// `external` (a list by metric).
    #[serde(default)]
    metrics: Value,
    want: Value,
}

/// Metrics as a case records them; what it does not record there is not.
struct Recorded(Value);

impl Recorded {
    fn samples(&self, kind: &str, metric: &str) -> Option<Vec<Sample>> {
        let by_pod = self.0[kind][metric].as_object()?;
        let sample = |(pod, value): (&String, &Value)| Sample {
            pod: pod.into(),
            value: value.as_i64().expect("a number"),
            at: start(),
            window: Duration::from_secs(30),
        };
        Some(by_pod.iter().map(sample).collect())
    }
}

impl Metrics for Recorded {
    fn resource(&self, n: &str, pods: &Selector, name: &str, c: Option<&str>) -> Result<Vec<Sample>, String> {
        self.samples("resource", name).map_or_else(|| NoMetrics.resource(n, pods, name, c), Ok)
    }
    fn pods(&self, n: &str, pods: &Selector, metric: Named<'_>) -> Result<Vec<Sample>, String> {
        self.samples("pods", metric.name).map_or_else(|| NoMetrics.pods(n, pods, metric), Ok)
    }
    fn object(&self, n: &str, object: &CrossVersionObjectReference, metric: Named<'_>) -> Result<i64, String> {
        self.0["object"][metric.name].as_i64().map_or_else(|| NoMetrics.object(n, object, metric), Ok)
    }
    fn external(&self, n: &str, metric: Named<'_>) -> Result<Vec<i64>, String> {
        let series = self.0["external"][metric.name].as_array().map(|l| l.iter().filter_map(Value::as_i64).collect());
        series.map_or_else(|| NoMetrics.external(n, metric), Ok)
    }
}

struct FakeSigner;
impl CertificateSigner for FakeSigner {
    fn sign(&self, signer: &str, _: &str, usages: &[String], _: Option<u32>, _: Timestamp) -> Result<String, String> {
        Ok(format!("{signer} for {}", usages.join(", ")))
    }
}

fn controllers(metrics: &Value) -> Vec<ControllerDef> {
    table(Settings {
        cluster_cidr: "10.42.0.0/22".parse().expect("net"),
        ca_pem: "CA".into(),
        signer: Arc::new(FakeSigner),
        metrics: Arc::new(Recorded(metrics.clone())),
    })
}

fn start() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().expect("time")
}

/// Objects by resource, each with its row, as informers would hold them.
fn sources(objects: &[Value]) -> Arc<[Source]> {
    let steady = Steady::new(Arc::new(FixedClock::new(start())));
    let rows = rows::rows(&steady);
    let mut stores: BTreeMap<(String, String), (Resource, Store)> = BTreeMap::new();
    for tree in objects {
        let (api_version, kind) = (tree["apiVersion"].as_str().unwrap_or("v1"), tree["kind"].as_str().expect("kind"));
        let resource = crate::kinds::by_owner(api_version, kind).expect("a known kind").resource;
        let object = kybern_client::wire::object(tree.to_string().as_bytes()).expect("object");
        let row = rows.get(&resource).map(|make| make(&object));
        let entry = (resource.group.clone(), resource.plural.clone());
        stores.entry(entry).or_insert_with(|| (resource, Store::default())).1.insert(Item { object, row });
    }
    stores.into_values().map(|(resource, store)| Source::Fixed(resource, store)).collect()
}

fn key(text: &str) -> Key {
    let (kind, rest) = text.split_once(' ').unwrap_or(("", text));
    let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
    Key { kind: kind.into(), namespace: namespace.into(), name: name.into() }
}

fn merge(to: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *to = patch.clone();
        return;
    };
    for (name, value) in members {
        if value.is_null() {
            to.as_object_mut().map(|m| m.remove(name));
        } else {
            merge(&mut to[name.as_str()], value);
        }
    }
}

fn world_of(file: &File, case: &Case) -> Vec<Value> {
    let mut objects: Vec<Value> = file.world.iter().chain(&case.world).cloned().collect();
    let named = |o: &Value, name: &str| {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        format!("{} {}", text(&o["kind"]), text(&o["metadata"]["name"])) == name
    };
    for (at, patch) in &case.with {
        let object = objects.iter_mut().find(|o| named(o, at));
        merge(object.unwrap_or_else(|| panic!("{}: no {at}", case.name)), patch);
    }
    for gone in &case.without {
        let at = objects.iter().position(|o| named(o, gone));
        objects.remove(at.unwrap_or_else(|| panic!("{}: no {gone}", case.name)));
    }
    objects
}

fn plan(def: &ControllerDef, file: &File, case: &Case) -> Value {
    let view = View::new(sources(&world_of(file, case)));
    let now = start().saturating_add(jiff::SignedDuration::from_secs(case.at)).expect("time");
    let world = World { view: &view, now, steady: now, failure: case.failure.as_deref() };
    match (def.plan)(&world, &key(&case.key)) {
        Ok(plan) => describe(&plan),
        Err(error) => json!({"error": error.to_string()}),
    }
}

/// `want` has to be contained in `have`: lists entry by entry, objects member by member.
fn contains(have: &Value, want: &Value) -> bool {
    match (have, want) {
        (Value::Array(h), Value::Array(w)) => h.len() == w.len() && h.iter().zip(w).all(|(h, w)| contains(h, w)),
        (Value::Object(h), Value::Object(w)) => w.iter().all(|(k, w)| h.get(k).is_some_and(|h| contains(h, w))),
        (Value::Number(h), Value::Number(w)) => h.as_f64() == w.as_f64(),
        _ => have == want,
    }
}

/// Runs a file's cases; what does not come out as wanted goes to `failures`.
fn check(text: &str, name: &str, failures: &mut Vec<String>) -> usize {
    let file: File = serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
    for case in &file.cases {
        let def = controllers(&case.metrics).into_iter().find(|d| d.name == file.controller);
        let def = def.unwrap_or_else(|| panic!("{name}: no such controller"));
        let have = plan(&def, &file, case);
        if !contains(&have, &case.want) {
            failures.push(format!("{name}: {}\n  have: {have}\n  want: {}", case.name, case.want));
        }
    }
    file.cases.len()
}

#[test]
fn cases() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/cases");
    let (mut count, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(dir).expect("cases") {
        let path = entry.expect("entry").path();
        let text = std::fs::read_to_string(&path).expect("case file");
        count += check(&text, &path.file_name().unwrap_or_default().to_string_lossy(), &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count >= 70, "only {count} cases were found");
}

#[test]
fn controllers_have_distinct_names_and_declare_what_they_watch_once() {
    let mut names = std::collections::BTreeSet::new();
    for def in controllers(&Value::Null) {
        assert!(names.insert(def.name), "{} twice", def.name);
        let mut seen = std::collections::HashSet::new();
        assert!(def.watches.iter().all(|w| seen.insert(w.resource.clone())), "{} watches a resource twice", def.name);
    }
}
