//! ServiceCIDR: a range that service addresses come from.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::tree;
use crate::validate::field::IMMUTABLE;
use crate::validate::{Field, cidr};
use ipnet::IpNet;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs")
        .cluster()
        .status()
        .columns([
            name(),
            computed("CIDRs", "The ranges.", |v| cells::texts(tree::list(v.obj, "spec.cidrs"), "")),
            age(),
        ])
        .inert()
        .strategy(&ServiceCidr)
        .build()
}

struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        let ranges = spec.field("cidrs");
        match ranges.len() {
            0 => ranges.required("at least one CIDR required", out),
            1 => {}
            2 => families(&spec, &ranges, out),
            _ => ranges.invalid_value(spec.value, "may only hold up to 2 values", out),
        }
        ranges.items().for_each(|range| cidr(&range, out));
        if let Some(old) = old {
            unchanged(&ranges, tree::list(old, "spec.cidrs"), out);
        }
    }
}

/// Two ranges are one of each family.
fn families(spec: &Field<'_, '_>, ranges: &Field<'_, '_>, out: &mut Causes) {
    let parsed: Vec<IpNet> = ranges.items().filter_map(|range| range.text().parse().ok()).collect();
    if let [first, second] = parsed[..]
        && first.addr().is_ipv4() == second.addr().is_ipv4()
    {
        let text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96";
        ranges.invalid_value(spec.value, text, out);
    }
}

/// Ranges stay; a second family may come.
fn unchanged(ranges: &Field<'_, '_>, before: &[Value], out: &mut Causes) {
    if ranges.len() != before.len() && (before.len(), ranges.len()) != (1, 2) {
        return ranges.invalid(IMMUTABLE, out);
    }
    for (now, then) in ranges.items().zip(before) {
        if now.value != then {
            now.invalid(IMMUTABLE, out);
        }
    }
}
