//! IPAddress: an address that is taken.

use crate::kind::{KindDef, NameRule};
use crate::kinds::cells;
use crate::kinds::row::{Row, computed, name};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("networking.k8s.io", "v1", "IPAddress", "ipaddresses")
        .cluster()
        .short(&["ip"])
        .names(NameRule::Custom(canonical_ip))
        .columns([name(), computed("ParentRef", "What the address belongs to.", |v| parent(v.obj))])
        .inert()
        .build()
}

fn canonical_ip(name: &str) -> Result<(), String> {
    let canonical = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_string() == name);
    if canonical { Ok(()) } else { Err("must be a valid IP address in canonical form".to_owned()) }
}

fn parent(obj: &Value) -> Value {
    let Some(parent) = tree::at(obj, "spec.parentRef") else { return cells::NONE.into() };
    let resource = match tree::text(parent, "group") {
        "" => tree::text(parent, "resource").to_owned(),
        group => format!("{}.{group}", tree::text(parent, "resource")),
    };
    let parts = [resource.as_str(), tree::text(parent, "namespace"), tree::text(parent, "name")];
    cells::joined(parts.into_iter().filter(|p| !p.is_empty()), "/", cells::NONE)
}
