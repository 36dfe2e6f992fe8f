//! Endpoints: the addresses behind a Service, in one object.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::meta::names;
use crate::tree;
use crate::validate;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Endpoints", "endpoints")
        .short(&["ep"])
        .create_on_update()
        .columns([name(), computed("Endpoints", "Addresses and ports.", |v| addresses(v.obj)), age()])
        .strategy(&Endpoints)
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

struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, obj: &mut Value) {
        tree::each(obj, "subsets", |subset| {
            tree::each(subset, "ports", |port| tree::set_default(port, "protocol", "TCP"));
        });
    }
    fn prepare(&self, _ctx: &Context<'_>, obj: &mut Value, _old: Option<&Value>) {
        super::endpoints_pack::pack(obj);
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        for subset in root.field("subsets").items() {
            let lists = [subset.field("addresses"), subset.field("notReadyAddresses")];
            if lists.iter().all(Field::is_empty) {
                subset.required("must specify `addresses` or `notReadyAddresses`", out);
            }
            for address in lists.iter().flat_map(Field::items) {
                check_address(&address, out);
            }
            let ports = subset.field("ports");
            for port in ports.items() {
                let (name, number) = (port.field("name"), port.field("port"));
                if ports.len() > 1 && !name.set() {
                    name.required("", out);
                }
                name.optional(names::label, out);
                number.invalid_each(names::port_number(number.int().unwrap_or_default()), out);
                port.field("protocol").one_of(&["SCTP", "TCP", "UDP"], out);
                port.field("appProtocol").optional(names::qualified_name, out);
            }
        }
    }
}

fn check_address(address: &Field<'_, '_>, out: &mut Causes) {
    validate::ip(&address.field("ip"), out);
    address.field("hostname").optional(names::label, out);
    address.field("nodeName").optional(names::subdomain, out);
    validate::not_special(&address.field("ip"), out);
}
