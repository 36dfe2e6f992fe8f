//! Routes as data: `cases/*.yaml` hold Ingresses, oldest first unless they say otherwise, and requests with
//! where they go.
//!
//! `namespace/service:port` is where a request goes; `404` nowhere, `503` to a path without a Service.
//! `refused` are the words of what an Ingress did not get.

use kybern_api::ingress::{Claims, Ingress, Port, order};
use kybern_ingress::backend::Backend;
use kybern_ingress::routes::{Found, Table};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    ingresses: Vec<Value>,
    /// Host and path, and where it goes.
    #[serde(default)]
    requests: Vec<(String, String)>,
    #[serde(default)]
    refused: BTreeMap<String, Vec<String>>,
    /// Host and `namespace/secret`.
    certificates: Option<BTreeMap<String, String>>,
}

/// An Ingress, read as the proxy reads it. Without a time it is as old as its place says.
fn ingress(place: usize, tree: &Value) -> Ingress {
    let object = kybern_client::wire::object(tree.to_string().as_bytes()).expect("an object");
    let mut ingress = Ingress::of(&object).expect("an Ingress");
    if ingress.created == 0 {
        ingress.created = i64::try_from(place).expect("small") + 1;
    }
    ingress
}

fn goes(table: &Table, owners: &HashMap<*const Backend, String>, host: &str, path: &str) -> String {
    match table.find(host, path) {
        Found::Nothing => "404".to_owned(),
        Found::Nowhere => "503".to_owned(),
        Found::Target(target, _) => owners[&Arc::as_ptr(&target.backend)].clone(),
    }
}

fn check(case: &Case) {
    let mut ingresses: Vec<Ingress> = case.ingresses.iter().enumerate().map(|(i, t)| ingress(i, t)).collect();
    ingresses.sort_by(order);
    let (mut backends, mut owners) = (HashMap::new(), HashMap::new());
    let table = Table::new(&ingresses, |namespace, wanted| {
        let port = match &wanted.port {
            Port::Name(name) => name.to_string(),
            Port::Number(number) => number.to_string(),
        };
        let key = format!("{namespace}/{}:{port}", wanted.service);
        let backend: &Arc<Backend> = backends.entry(key.clone()).or_default();
        owners.insert(Arc::as_ptr(backend), key);
        backend.clone()
    });
    for (request, expected) in &case.requests {
        let (host, path) = request.split_at(request.find('/').expect("a path"));
        assert_eq!(&goes(&table, &owners, host, path), expected, "{}: {request}", case.name);
    }
    let mut claims = Claims::default();
    let refused: BTreeMap<String, Vec<String>> = ingresses
        .iter()
        .map(|i| (i.key(), claims.take(i).refused))
        .filter(|(_, refused)| !refused.is_empty())
        .collect();
    assert_eq!(refused, case.refused, "{}", case.name);
    if let Some(expected) = &case.certificates {
        let have: BTreeMap<String, String> =
            table.certificates.iter().map(|(h, ns, s)| (h.to_string(), format!("{ns}/{s}"))).collect();
        assert_eq!(&have, expected, "{}", case.name);
    }
}

#[test]
fn cases() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("the directory of cases") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a file");
        let cases: Vec<Case> = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        cases.iter().for_each(check);
        count += cases.len();
    }
    assert!(count >= 14, "{count} cases were found");
}
