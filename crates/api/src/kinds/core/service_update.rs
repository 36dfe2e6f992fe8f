//! What an update of a service keeps, drops and refuses.

use super::service_rules::{HEADLESS, HEALTH_PORT, Kind, health_checked, reached};
use crate::kind::Causes;
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

/// Fields that only services with an address have.
const ADDRESS_FIELDS: [&str; 4] = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];

/// What was allocated stays allocated when a client leaves it out; what no longer applies goes, unless
/// the client changed it in the same write.
pub(super) fn carry_over(obj: &mut Value, old: &Value) {
    let (Some(spec), Some(old)) = (obj.get_mut("spec"), old.get("spec")) else { return };
    let (kind, before) = (Kind::of(spec), Kind::of(old));
    if kind.has_address && before.has_address {
        keep_address(spec, old);
    }
    if kind.node_ports && before.node_ports {
        keep_node_ports(spec, old);
    }
    if !kind.has_address && before.has_address {
        drop_same(spec, old, &ADDRESS_FIELDS);
    }
    if before.node_ports && !kind.node_ports {
        let ports = tree::list(old, "ports").to_vec();
        tree::each(spec, "ports", |port| {
            if ports.iter().any(|p| p.get("nodePort") == port.get("nodePort")) {
                tree::remove(port, "nodePort");
            }
        });
    }
    if reached(old) && !reached(spec) {
        drop_same(spec, old, &["externalTrafficPolicy"]);
    }
    match (health_checked(old), health_checked(spec)) {
        (true, true) if tree::int(spec, HEALTH_PORT).unwrap_or_default() == 0 => tree::copy(spec, old, HEALTH_PORT),
        (true, false) => drop_same(spec, old, &[HEALTH_PORT]),
        _ => {}
    }
    if before.load_balancer && !kind.load_balancer {
        drop_same(spec, old, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
}

/// A new address is not taken over from the list it is no longer the first of.
fn keep_address(spec: &mut Value, old: &Value) {
    let (own, list) = (tree::text(spec, "clusterIP").to_owned(), spec.get("clusterIPs").is_some());
    if own.is_empty() && !list {
        ADDRESS_FIELDS.iter().for_each(|key| keep(spec, old, key));
    } else if !list && own == tree::text(old, "clusterIP") {
        keep(spec, old, "clusterIPs");
    }
    keep(spec, old, "ipFamilies");
    keep(spec, old, "ipFamilyPolicy");
}

fn keep(spec: &mut Value, old: &Value, key: &str) {
    if tree::unset(spec.get(key)) {
        tree::copy(spec, old, key);
    }
}

/// Ports keep their node port by protocol and number; a number that another port claims is not kept.
fn keep_node_ports(spec: &mut Value, old: &Value) {
    let identity = |p: &Value| (tree::text(p, "protocol").to_owned(), tree::int(p, "port"));
    let node_port = |p: &Value| tree::int(p, "nodePort").filter(|n| *n != 0);
    let claimed: Vec<i64> = tree::list(spec, "ports").iter().filter_map(node_port).collect();
    tree::each(spec, "ports", |port| {
        let before = tree::list(old, "ports").iter().find(|p| identity(p) == identity(port)).and_then(node_port);
        if let Some(number) = before.filter(|n| !claimed.contains(n)) {
            tree::set_default_nonzero(port, "nodePort", number);
        }
    });
}

fn drop_same(spec: &mut Value, old: &Value, keys: &[&str]) {
    for key in keys {
        if spec.get(*key) == old.get(*key) {
            tree::remove(spec, key);
        }
    }
}

/// Refuses changes of what stays for a service's life.
pub(super) fn validate(new: &Field<'_, '_>, old: &Field<'_, '_>, out: &mut Causes) {
    let (kind, before) = (Kind::of(new.value), Kind::of(old.value));
    if kind.has_address && before.has_address {
        let (ip, was) = (new.field("clusterIP"), old.field("clusterIP"));
        if was.set() && ip.value != was.value {
            ip.immutable(&was, out);
        }
        let (families, were) = (new.field("ipFamilies"), old.field("ipFamilies"));
        let first = |f: &Field<'_, '_>| f.items().next().map(|f| f.text().to_owned());
        if was.text() != HEADLESS && first(&were).is_some_and(|w| first(&families) != Some(w)) {
            families.invalid("primary family is immutable", out);
        }
    }
    if health_checked(new.value) && health_checked(old.value) {
        let (port, was) = (new.field(HEALTH_PORT), old.field(HEALTH_PORT));
        if port.value != was.value {
            port.immutable(&was, out);
        }
    }
    if kind.load_balancer && before.load_balancer {
        let (class, was) = (new.field("loadBalancerClass"), old.field("loadBalancerClass"));
        if class.value != was.value {
            class.invalid("may not change once set", out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stored() -> Value {
        json!({"spec": {"type": "NodePort", "clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}})
    }

    #[test]
    fn what_was_allocated_is_kept() {
        let mut obj = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]}});
        carry_over(&mut obj, &stored());
        assert_eq!(obj["spec"]["clusterIP"], "10.43.0.9");
        assert_eq!(
            obj["spec"]["ports"],
            json!([{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 81, "protocol": "TCP"}])
        );
    }

    #[test]
    fn what_no_longer_applies_goes() {
        let mut obj = stored();
        obj["spec"]["type"] = "ClusterIP".into();
        carry_over(&mut obj, &stored());
        assert_eq!(obj["spec"]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
        assert_eq!(obj["spec"].get("externalTrafficPolicy"), None);
        obj["spec"]["type"] = "ExternalName".into();
        carry_over(&mut obj, &stored());
        assert_eq!(obj["spec"].get("clusterIP"), None);
    }

    #[test]
    fn an_address_is_for_life() {
        let old = stored();
        let mut new = old.clone();
        new["spec"]["clusterIP"] = "10.43.0.10".into();
        let mut out = Causes::new();
        validate(&Field::root(&new["spec"]), &Field::root(&old["spec"]), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].message, "Invalid value: \"10.43.0.10\": field is immutable");
    }
}
