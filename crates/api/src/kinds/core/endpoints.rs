//! Endpoints: the addresses behind a Service, in one object.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Endpoints", "endpoints")
        .short(&["ep"])
        .create_on_update()
        .columns([name(), computed("Endpoints", "Addresses and ports.", |v| addresses(v.obj)), age()])
        .build()
}

/// `ip:port` of every ready address and port; the bare ip of a subset without ports.
fn addresses(obj: &Value) -> Value {
    let mut all = Vec::new();
    for subset in tree::list(obj, "subsets") {
        let ports = tree::list(subset, "ports");
        for ip in tree::list(subset, "addresses").iter().map(|a| tree::text(a, "ip")) {
            all.extend(ports.iter().filter_map(|p| tree::int(p, "port")).map(|port| host_port(ip, port)));
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
        }
    }
    cells::first_three(&all, cells::NONE)
}

fn host_port(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}
