//! Behaviour of services. Addresses and node ports are slots, which the registry fills from the
//! cluster's ranges in the transaction that writes the object.

use super::service_update;
use crate::kind::{Causes, Context, KindDef, Pool, Slot, Strategy};
use crate::meta::quantity::Quantity;
use crate::meta::{self, names};
use crate::quota::Amounts;
use crate::tree;
use crate::validate::field::{Field, Unique};
use crate::validate::{self, ip};
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};

/// The strategy.
pub(super) struct Service;

/// Seconds for which a client keeps its endpoint, unless said otherwise.
const AFFINITY_SECONDS: i64 = 10_800;
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
/// The clusterIP of a service without an address.
pub(super) const HEADLESS: &str = "None";
/// The nodes' port for health checks of load balancers.
pub(super) const HEALTH_PORT: &str = "healthCheckNodePort";

impl Strategy for Service {
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::set_default(spec, "type", "ClusterIP");
        tree::set_default(spec, "sessionAffinity", "None");
        affinity(spec);
        tree::each(spec, "ports", port);
        let kind = Kind::of(spec);
        if reached(spec) {
            tree::set_default(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind.has_address {
            tree::set_default(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind.load_balancer {
            tree::set_if_absent(spec, "allocateLoadBalancerNodePorts", true);
            if let Some(balancer) = obj.get_mut("status").and_then(|s| s.get_mut("loadBalancer")) {
                tree::each(balancer, "ingress", |i| {
                    if !tree::unset(i.get("ip")) {
                        tree::set_default(i, "ipMode", "VIP");
                    }
                });
            }
        }
    }
    fn prepare(&self, ctx: &Context<'_>, obj: &mut Value, old: Option<&Value>) {
        if ctx.subresource.is_empty() {
            if let Some(old) = old {
                service_update::carry_over(obj, old);
            }
            if let Some(spec) = obj.get_mut("spec") {
                addresses(spec);
            }
        }
        let balanced = Kind::of(obj.get("spec").unwrap_or(&Value::Null)).load_balancer;
        let was = old.and_then(|o| o.get("spec")).is_some_and(|s| Kind::of(s).load_balancer);
        if let Some(status) = tree::object(obj, "status") {
            if was && !balanced {
                tree::remove(status, "loadBalancer");
            }
            tree::set_if_absent(status, "loadBalancer", serde_json::Map::new());
        }
    }
    fn usage(&self, def: &KindDef, obj: &Value) -> Amounts {
        let count = |n: usize| Quantity::from_int(i64::try_from(n).unwrap_or(i64::MAX));
        let spec = obj.get("spec").unwrap_or(&Value::Null);
        let ports = tree::list(spec, "ports");
        let kind = Kind::of(spec);
        let node_ports = match (kind.load_balancer, spec.get("allocateLoadBalancerNodePorts")) {
            (true, Some(Value::Bool(false))) => {
                ports.iter().filter(|p| tree::int(p, "nodePort").is_some_and(|n| n != 0)).count()
            }
            _ if kind.node_ports => ports.len(),
            _ => 0,
        };
        Amounts::from([
            (def.plural.clone(), count(1)),
            ("services.loadbalancers".into(), count(usize::from(kind.load_balancer))),
            ("services.nodeports".into(), count(node_ports)),
        ])
    }
    fn usage_varies(&self) -> bool {
        true
    }
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        if ctx.subresource == "status" {
            return;
        }
        let root = Field::root(obj);
        let spec = root.field("spec");
        let kind = Kind::of(spec.value);
        spec.field("type").one_of(&TYPES, out);
        meta::labels(&spec.field("selector"), out);
        ports(&spec, &kind, out);
        policies(&spec, out);
        external(&spec, &kind, out);
        for address in spec.field("externalIPs").items() {
            ip(&address, out);
        }
        if kind.has_address {
            cluster_ips(&spec, &kind, out);
        } else {
            external_name(&spec, out);
        }
        if let Some(old) = old {
            let old = Field::root(old);
            service_update::validate(&spec, &old.field("spec"), out);
        }
    }
    fn slots(&self, obj: &Value) -> Vec<Slot> {
        let Some(spec) = obj.get("spec") else { return Vec::new() };
        let kind = Kind::of(spec);
        let mut out = Vec::new();
        if kind.has_address && tree::text(spec, "clusterIP") != HEADLESS {
            out.push(address_slot(spec));
        }
        if kind.node_ports {
            let automatic = tree::at(spec, "allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
            out.extend(port_slots(spec, automatic || !kind.load_balancer));
        }
        if health_checked(spec) {
            let number = tree::int(spec, HEALTH_PORT).filter(|n| *n != 0);
            out.push(Slot {
                pool: Pool::NodePort,
                class: "TCP".into(),
                value: number.map(|n| format_smolstr!("{n}")),
                pointers: vec![format!("/spec/{HEALTH_PORT}")],
            });
        }
        out
    }
    /// Services count no generations.
    fn counts_generation(&self, _def: &crate::kind::KindDef) -> bool {
        false
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}

/// What follows from a service's type.
pub(super) struct Kind {
    /// It has a cluster address, or is headless: everything but ExternalName.
    pub(super) has_address: bool,
    /// It has ports on the nodes.
    pub(super) node_ports: bool,
    /// It asks for a load balancer.
    pub(super) load_balancer: bool,
}

impl Kind {
    pub(super) fn of(spec: &Value) -> Self {
        let kind = tree::text(spec, "type");
        Self {
            has_address: kind != "ExternalName",
            node_ports: matches!(kind, "NodePort" | "LoadBalancer"),
            load_balancer: kind == "LoadBalancer",
        }
    }
}

/// Can it be reached from outside the cluster?
pub(super) fn reached(spec: &Value) -> bool {
    let kind = Kind::of(spec);
    kind.node_ports || (kind.has_address && !tree::list(spec, "externalIPs").is_empty())
}

/// Does a load balancer ask each node whether it has endpoints?
pub(super) fn health_checked(spec: &Value) -> bool {
    Kind::of(spec).load_balancer && tree::text(spec, "externalTrafficPolicy") == "Local"
}

fn affinity(spec: &mut Value) {
    if tree::text(spec, "sessionAffinity") == "ClientIP" {
        if let Some(client) = tree::object(spec, "sessionAffinityConfig").and_then(|c| tree::object(c, "clientIP")) {
            tree::set_if_absent(client, "timeoutSeconds", AFFINITY_SECONDS);
        }
    } else {
        tree::remove(spec, "sessionAffinityConfig");
    }
}

fn port(port: &mut Value) {
    tree::set_default(port, "protocol", "TCP");
    let unset = port.get("targetPort").is_none_or(|t| tree::unset(Some(t)) || t.as_i64() == Some(0));
    if unset && let Some(number) = port.get("port").cloned() {
        tree::remove(port, "targetPort");
        tree::set_if_absent(port, "targetPort", number);
    }
}

/// Keeps `clusterIP` and `clusterIPs` in step and says which families the service has.
fn addresses(spec: &mut Value) {
    if !Kind::of(spec).has_address {
        return;
    }
    let own = tree::text(spec, "clusterIP").to_owned();
    let first = tree::list(spec, "clusterIPs").first().and_then(Value::as_str).unwrap_or_default().to_owned();
    if !own.is_empty() {
        tree::set_if_absent(spec, "clusterIPs", vec![own.as_str()]);
    } else if !first.is_empty() {
        tree::set_default(spec, "clusterIP", first.as_str());
    } else {
        // The list must be there for the registry to fill it.
        tree::set_if_absent(spec, "clusterIPs", Vec::<Value>::new());
    }
    let selector = tree::at(spec, "selector").and_then(Value::as_object).is_some_and(|s| !s.is_empty());
    if own == HEADLESS && !selector {
        tree::set_default(spec, "ipFamilyPolicy", "RequireDualStack");
        tree::set_if_absent(spec, "ipFamilies", vec!["IPv4", "IPv6"]);
    }
    let family = if own.contains(':') { "IPv6" } else { "IPv4" };
    tree::set_default(spec, "ipFamilyPolicy", "SingleStack");
    tree::set_if_absent(spec, "ipFamilies", vec![family]);
}

fn address_slot(spec: &Value) -> Slot {
    let address = tree::text(spec, "clusterIP");
    Slot {
        pool: Pool::ServiceAddress,
        class: SmolStr::default(),
        value: (!address.is_empty()).then(|| address.into()),
        pointers: vec!["/spec/clusterIP".to_owned(), "/spec/clusterIPs/0".to_owned()],
    }
}

/// One slot for each port; where ports are not given out by themselves, for each that names its number.
fn port_slots(spec: &Value, automatic: bool) -> impl Iterator<Item = Slot> {
    tree::list(spec, "ports").iter().enumerate().filter_map(move |(i, port)| {
        let number = tree::int(port, "nodePort").filter(|n| *n != 0);
        (automatic || number.is_some()).then(|| Slot {
            pool: Pool::NodePort,
            class: tree::text(port, "protocol").into(),
            value: number.map(|n| format_smolstr!("{n}")),
            pointers: vec![format!("/spec/ports/{i}/nodePort")],
        })
    })
}

fn ports(spec: &Field<'_, '_>, kind: &Kind, out: &mut Causes) {
    let ports = spec.field("ports");
    let headless = spec.field("clusterIP").text() == HEADLESS;
    if ports.is_empty() && kind.has_address && !headless {
        ports.required("", out);
    }
    let (mut seen_names, mut seen_ports, mut seen_nodes) = (Unique::default(), Vec::new(), Vec::new());
    for port in ports.items() {
        let (name, number, protocol) = (port.field("name"), port.field("port"), port.field("protocol"));
        if ports.len() > 1 {
            name.demand(out);
        }
        name.optional(names::label, out);
        seen_names.check(&name, out);
        number.invalid_each(names::port_number(number.int().unwrap_or_default()), out);
        protocol.one_of(&["SCTP", "TCP", "UDP"], out);
        validate::port(&port.field("targetPort"), out);
        let identity = (protocol.text(), number.int());
        if seen_ports.contains(&identity) {
            port.duplicate(out);
        }
        seen_ports.push(identity);
        let node = port.field("nodePort");
        let Some(wanted) = node.int().filter(|n| *n != 0) else { continue };
        if !kind.node_ports {
            node.forbidden("may not be used when `type` is 'ClusterIP'", out);
        }
        if seen_nodes.contains(&(protocol.text(), wanted)) {
            node.duplicate(out);
        }
        seen_nodes.push((protocol.text(), wanted));
    }
}

fn policies(spec: &Field<'_, '_>, out: &mut Causes) {
    let affinity = spec.field("sessionAffinity");
    affinity.one_of(&["ClientIP", "None"], out);
    spec.field("externalTrafficPolicy").optional_one_of(&["Cluster", "Local"], out);
    spec.field("internalTrafficPolicy").optional_one_of(&["Cluster", "Local"], out);
    let near = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    spec.field("trafficDistribution").optional_one_of(&near, out);
    spec.field("ipFamilyPolicy").optional_one_of(&["PreferDualStack", "RequireDualStack", "SingleStack"], out);
    let config = spec.field("sessionAffinityConfig");
    let client = config.field("clientIP");
    let seconds = client.field("timeoutSeconds");
    if seconds.int().is_some_and(|s| !(1..=86_400).contains(&s)) {
        seconds.invalid("must be greater than 0 and less than 86400", out);
    }
    for range in spec.field("loadBalancerSourceRanges").items() {
        let trimmed = range.text().trim().into();
        validate::cidr(&range.instead(&trimmed), out);
    }
}

/// What only services have that are reached from outside.
fn external(spec: &Field<'_, '_>, kind: &Kind, out: &mut Causes) {
    let policy = spec.field("externalTrafficPolicy");
    if !reached(spec.value) && policy.set() {
        policy.invalid("may only be set for externally-accessible services", out);
    }
    let port = spec.field(HEALTH_PORT);
    if let Some(number) = port.int().filter(|n| *n != 0) {
        if health_checked(spec.value) {
            port.invalid_each(names::port_number(number), out);
        } else {
            let text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            port.invalid(text, out);
        }
    }
    for key in ["loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if !kind.load_balancer && spec.field(key).set() {
            spec.field(key).forbidden("may only be used when `type` is 'LoadBalancer'", out);
        }
    }
}

fn cluster_ips(spec: &Field<'_, '_>, kind: &Kind, out: &mut Causes) {
    let (own, list) = (spec.field("clusterIP"), spec.field("clusterIPs"));
    if own.text() == HEADLESS && kind.node_ports {
        let text = format!("may not be set to 'None' for {} services", spec.field("type").text());
        own.invalid(&text, out);
    }
    if own.set() && list.items().next().is_some_and(|first| first.text() != own.text()) {
        list.invalid("first value must match `clusterIP`", out);
    }
    for address in list.items().filter(|a| a.text() != HEADLESS) {
        ip(&address, out);
    }
}

fn external_name(spec: &Field<'_, '_>, out: &mut Causes) {
    for key in ["clusterIP", "clusterIPs"] {
        if spec.field(key).set() && !(spec.field(key).value.is_array() && spec.field(key).is_empty()) {
            spec.field(key).forbidden("may not be set when `type` is 'ExternalName'", out);
        }
    }
    let name = spec.field("externalName");
    let text = name.text().strip_suffix('.').unwrap_or(name.text());
    if name.demand(out) {
        name.invalid_each(names::subdomain(text), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::json;

    fn created(spec: Value) -> Value {
        let def = kinds::find("", "services").expect("a row");
        let ctx = Context { def, subresource: "", now: jiff::Timestamp::UNIX_EPOCH };
        let mut service = json!({ "spec": spec });
        Service.default(&mut service);
        Service.prepare(&ctx, &mut service, None);
        service
    }

    #[test]
    fn slots_follow_the_type() {
        let pools = |spec: Value| -> Vec<(Pool, Option<String>)> {
            Service.slots(&created(spec)).into_iter().map(|s| (s.pool, s.value.map(|v| v.to_string()))).collect()
        };
        let ports = json!([{"port": 80}]);
        assert_eq!(pools(json!({ "ports": ports })), [(Pool::ServiceAddress, None)]);
        assert_eq!(pools(json!({"ports": ports, "clusterIP": "None"})), []);
        assert_eq!(pools(json!({"type": "ExternalName", "externalName": "a.b"})), []);
        assert_eq!(
            pools(json!({"type": "NodePort", "clusterIP": "10.43.0.9", "ports": [{"port": 80, "nodePort": 30080}]})),
            [(Pool::ServiceAddress, Some("10.43.0.9".into())), (Pool::NodePort, Some("30080".into()))]
        );
        let quiet = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports});
        assert_eq!(pools(quiet.clone()), [(Pool::ServiceAddress, None)]);
        let mut local = quiet;
        local["externalTrafficPolicy"] = "Local".into();
        assert_eq!(pools(local.clone()), [(Pool::ServiceAddress, None), (Pool::NodePort, None)]);
        local["healthCheckNodePort"] = 30081.into();
        assert_eq!(pools(local)[1], (Pool::NodePort, Some("30081".into())));
    }

    #[test]
    fn what_is_for_services_reached_from_outside_is_refused_elsewhere() {
        let refused = |spec: Value| {
            let mut out = Causes::new();
            let spec = json!({"spec": spec});
            let root = Field::root(&spec);
            let spec = root.field("spec");
            external(&spec, &Kind::of(spec.value), &mut out);
            out.iter().map(|c| c.field.to_string()).collect::<Vec<_>>()
        };
        let inside = json!({"type": "ClusterIP", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001,
            "loadBalancerSourceRanges": ["10.0.0.0/8"], "loadBalancerClass": "a/b"});
        let fields = ["externalTrafficPolicy", "healthCheckNodePort", "loadBalancerSourceRanges", "loadBalancerClass"];
        assert_eq!(refused(inside), fields.map(|f| format!("spec.{f}")));
        let balanced = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001,
            "loadBalancerSourceRanges": ["10.0.0.0/8"], "loadBalancerClass": "a/b"});
        assert_eq!(refused(balanced), Vec::<String>::new());
        assert_eq!(
            refused(json!({"type": "ClusterIP", "externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local"})),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_new_service_is_single_stack_and_has_room_for_its_address() {
        let service = created(json!({"ports": [{"port": 80}], "selector": {"a": "b"}}));
        let want = json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "clusterIPs": [],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "selector": {"a": "b"},
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]});
        assert_eq!(service["spec"], want);
    }
}
