//! EndpointSlice: a part of the addresses behind a Service.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text};
use crate::meta::names;
use crate::tree;
use crate::validate::field::{Field, Unique};
use crate::validate::not_special;
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
        .strategy(&EndpointSlice)
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

struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn counts_generation(&self, _def: &KindDef) -> bool {
        true
    }
    fn default(&self, obj: &mut Value) {
        tree::each(obj, "ports", |port| {
            tree::set_if_absent(port, "name", "");
            tree::set_default(port, "protocol", "TCP");
        });
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let kind = root.field("addressType");
        kind.one_of(&["FQDN", "IPv4", "IPv6"], out);
        check_endpoints(&root.field("endpoints"), kind.text(), out);
        check_ports(&root.field("ports"), out);
        if let Some(old) = old {
            kind.immutable(&Field::root(old).field("addressType"), out);
        }
    }
}

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;

fn check_endpoints(endpoints: &Field<'_, '_>, kind: &str, out: &mut Causes) {
    if endpoints.len() > ENDPOINTS_MAX {
        return endpoints.too_many(ENDPOINTS_MAX, out);
    }
    for endpoint in endpoints.items() {
        let list = endpoint.field("addresses");
        match list.len() {
            0 => list.required("must contain at least 1 address", out),
            n if n > ADDRESSES_MAX => list.too_many(ADDRESSES_MAX, out),
            _ => {}
        }
        for address in list.items() {
            let fits = match kind {
                "IPv4" => address.text().parse::<std::net::Ipv4Addr>().is_ok(),
                "IPv6" => address.text().parse::<std::net::Ipv6Addr>().is_ok(),
                _ => names::subdomain(address.text()).is_empty(),
            };
            if !fits {
                address.invalid(&format!("must be a valid {kind} address"), out);
            }
            not_special(&address, out);
        }
        endpoint.field("hostname").optional(names::label, out);
        endpoint.field("nodeName").optional(names::subdomain, out);
        check_hints(&endpoint.field("hints").field("forZones"), out);
    }
}

/// For which zones an endpoint is: eight at most, each once.
fn check_hints(zones: &Field<'_, '_>, out: &mut Causes) {
    if zones.len() > HINTS_MAX {
        return zones.too_many(HINTS_MAX, out);
    }
    let mut seen = Unique::default();
    for zone in zones.items() {
        let name = zone.field("name");
        name.checked(names::label_value, out);
        seen.check(&name, out);
    }
}

fn check_ports(ports: &Field<'_, '_>, out: &mut Causes) {
    if ports.len() > PORTS_MAX {
        return ports.too_many(PORTS_MAX, out);
    }
    let mut seen: Vec<&str> = Vec::new();
    for port in ports.items() {
        let (name, number) = (port.field("name"), port.field("port"));
        if seen.contains(&name.text()) {
            name.duplicate(out);
        }
        seen.push(name.text());
        name.optional(names::label, out);
        if let Some(n) = number.int() {
            number.invalid_each(names::port_number(n), out);
        }
        port.field("protocol").one_of(&["SCTP", "TCP", "UDP"], out);
        port.field("appProtocol").optional(names::qualified_name, out);
    }
}
