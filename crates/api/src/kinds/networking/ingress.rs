//! Ingress: HTTP routes from outside to services.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text_or};
use crate::meta::names;
use crate::tree;
use crate::validate::{Field, ip};
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("networking.k8s.io", "v1", "Ingress", "ingresses")
        .short(&["ing"])
        .status()
        .columns([
            name(),
            text_or("Class", "spec.ingressClassName", cells::NONE),
            computed("Hosts", "Hosts of the rules.", |v| hosts(v.obj)),
            computed("Address", "Where the load balancer listens.", |v| {
                cells::joined(cells::ingress_addresses(v.obj), ",", "")
            }),
            computed("Ports", "Ports of the load balancer.", |v| match tree::list(v.obj, "spec.tls") {
                [] => "80".into(),
                _ => "80, 443".into(),
            }),
            age(),
        ])
        .strategy(&Ingress)
        .build()
}

fn hosts(obj: &Value) -> Value {
    let rules = tree::list(obj, "spec.rules");
    let named = rules.iter().map(|r| tree::text(r, "host")).filter(|h| !h.is_empty()).take(3);
    match (rules.len(), cells::joined(named, ",", "*")) {
        (4.., Value::String(text)) => format!("{text} + {} more...", rules.len() - 3).into(),
        (_, shown) => shown,
    }
}

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// What a path may not contain, and what it may not end with.
const PATH_CONTAINS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const PATH_ENDS: [&str; 2] = ["/..", "/."];
const NO_ADDRESS: &str = "must be a DNS name, not an IP address";

struct Ingress;

impl Strategy for Ingress {
    fn prepare(&self, _ctx: &Context<'_>, obj: &mut Value, _old: Option<&Value>) {
        if let Some(status) = tree::object(obj, "status") {
            tree::set_if_absent(status, "loadBalancer", serde_json::Map::new());
        }
    }
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        if ctx.subresource == "status" {
            return addresses(&root.field("status").field("loadBalancer").field("ingress"), out);
        }
        let spec = root.field("spec");
        let class = spec.field("ingressClassName");
        if old.is_none() && class.present() {
            let metadata = root.field("metadata");
            let annotation = metadata.field("annotations").field(CLASS_ANNOTATION).value;
            if !annotation.is_null() {
                // Kubernetes names it as a field of the object
                let place = root.field("annotations");
                let text = "can not be set when the class field is also set";
                place.field(CLASS_ANNOTATION).invalid_value(annotation, text, out);
            }
        }
        rules(&spec, out);
        for tls in spec.field("tls").items() {
            for host in tls.field("hosts").items() {
                dns_name(&host, out);
            }
            tls.field("secretName").optional(names::subdomain, out);
        }
        if class.present() {
            class.invalid_each(names::subdomain(class.text()), out);
        }
    }
}

fn rules(spec: &Field<'_, '_>, out: &mut Causes) {
    let (default, rules) = (spec.field("defaultBackend"), spec.field("rules"));
    if rules.is_empty() && !default.present() {
        spec.invalid_value(rules.value, "either `defaultBackend` or `rules` must be specified", out);
    }
    if default.present() {
        backend(&default, out);
    }
    for rule in rules.items() {
        let host = rule.field("host");
        if host.set() {
            if host.text().parse::<std::net::IpAddr>().is_ok() {
                host.invalid(NO_ADDRESS, out);
            }
            dns_name(&host, out);
        }
        let http = rule.field("http");
        if !http.present() {
            continue;
        }
        let paths = http.field("paths");
        if paths.is_empty() {
            paths.required("", out);
        }
        for p in paths.items() {
            path(&p, out);
        }
    }
}

fn dns_name(host: &Field<'_, '_>, out: &mut Causes) {
    let check = if host.text().contains('*') { names::wildcard_subdomain } else { names::subdomain };
    host.invalid_each(check(host.text()), out);
}

fn path(entry: &Field<'_, '_>, out: &mut Causes) {
    let (kind, path) = (entry.field("pathType"), entry.field("path"));
    let absolute = path.text().starts_with('/');
    match kind.text() {
        "Exact" | "Prefix" => {
            if !absolute {
                path.invalid_value(&path.text().into(), "must be an absolute path", out);
            }
            for part in PATH_CONTAINS.into_iter().filter(|part| path.text().contains(part)) {
                path.invalid(&format!("must not contain '{part}'"), out);
            }
            for end in PATH_ENDS.into_iter().filter(|end| path.text().ends_with(end)) {
                path.invalid(&format!("cannot end with '{end}'"), out);
            }
        }
        "ImplementationSpecific" => {
            if path.set() && !absolute {
                path.invalid("must be an absolute path", out);
            }
        }
        _ if !kind.present() => kind.required("pathType must be specified", out),
        _ => kind.unsupported(&["Exact", "ImplementationSpecific", "Prefix"], out),
    }
    backend(&entry.field("backend"), out);
}

fn backend(backend: &Field<'_, '_>, out: &mut Causes) {
    let (resource, service) = (backend.field("resource"), backend.field("service"));
    match (resource.present(), service.present()) {
        (true, true) => backend.invalid_value(&"".into(), "cannot set both resource and service backends", out),
        (true, false) => typed_reference(&resource, out),
        (false, true) => {
            service.field("name").checked(names::label_1035, out);
            let port = service.field("port");
            let (name, number) = (port.field("name"), port.field("number"));
            match (name.set(), number.int().unwrap_or_default()) {
                (true, 0) => name.invalid_each(names::port_name(name.text()), out),
                (true, _) => backend.invalid_value(&"".into(), "cannot set both port name & port number", out),
                (false, 0) => backend.required("port name or number is required", out),
                (false, n) => number.invalid_each(names::port_number(n), out),
            }
        }
        (false, false) => backend.invalid_value(&"".into(), "resource or service backend is required", out),
    }
}

/// Group, kind and name of an object that is only named.
pub(super) fn typed_reference(to: &Field<'_, '_>, out: &mut Causes) {
    let group = to.field("apiGroup");
    if group.present() {
        group.invalid_each(names::subdomain(group.text()), out);
    }
    for (key, missing) in [("kind", "kind is required"), ("name", "name is required")] {
        let field = to.field(key);
        match field.text() {
            "" => field.required(missing, out),
            text => field.invalid_each(names::path_segment(text), out),
        }
    }
}

fn addresses(list: &Field<'_, '_>, out: &mut Causes) {
    for entry in list.items() {
        let (address, name) = (entry.field("ip"), entry.field("hostname"));
        if address.set() {
            ip(&address, out);
        }
        if name.set() {
            name.invalid_each(names::subdomain(name.text()), out);
            if name.text().parse::<std::net::IpAddr>().is_ok() {
                name.invalid(NO_ADDRESS, out);
            }
        }
    }
}
