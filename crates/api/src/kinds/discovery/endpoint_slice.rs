//! EndpointSlice: a part of the addresses behind a Service.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        .columns([
            name(),
            text("AddressType", "addressType"),
            computed("Ports", "Ports of the endpoints.", |v| ports(v.obj)),
            computed("Endpoints", "Addresses of the endpoints.", |v| addresses(v.obj)),
            age(),
        ])
        .build()
}

/// Numbers, or the name of a port without a number, or `*`.
fn ports(obj: &Value) -> Value {
    let text = |port: &Value| match (tree::int(port, "port"), tree::text(port, "name")) {
        (Some(number), _) => number.to_string(),
        (None, "") => "*".to_owned(),
        (None, name) => name.to_owned(),
    };
    let all: Vec<String> = tree::list(obj, "ports").iter().map(text).collect();
    cells::first_three(&all, cells::UNSET)
}

fn addresses(obj: &Value) -> Value {
    let all: Vec<String> = tree::list(obj, "endpoints")
        .iter()
        .flat_map(|e| tree::list(e, "addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    cells::first_three(&all, cells::UNSET)
}
