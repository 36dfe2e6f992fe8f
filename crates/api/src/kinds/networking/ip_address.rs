//! IPAddress: an address that is taken.

use crate::kind::{Causes, Context, KindDef, NameRule, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, computed, name};
use crate::meta::names;
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("networking.k8s.io", "v1", "IPAddress", "ipaddresses")
        .cluster()
        .short(&["ip"])
        .names(NameRule::Custom(canonical_ip))
        .columns([name(), computed("ParentRef", "What the address belongs to.", |v| parent(v.obj))])
        .inert()
        .strategy(&IpAddress)
        .build()
}

fn canonical_ip(name: &str) -> Result<(), String> {
    match name.parse::<std::net::IpAddr>() {
        Err(_) => Err(format!("ParseAddr({name:?}): unable to parse IP")),
        Ok(ip) if ip.to_string() != name => Err("must be a canonical form IP address".to_owned()),
        Ok(_) => Ok(()),
    }
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

struct IpAddress;

impl Strategy for IpAddress {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        let parent = spec.field("parentRef");
        if !parent.present() {
            parent.required("", out);
        } else {
            parent.field("group").optional(names::subdomain, out);
            parent.field("resource").checked(names::path_segment, out);
            parent.field("name").checked(names::path_segment, out);
            parent.field("namespace").optional(names::path_segment, out);
        }
        if let Some(old) = old {
            parent.immutable(&Field::root(old).field("spec").field("parentRef"), out);
        }
    }
}
