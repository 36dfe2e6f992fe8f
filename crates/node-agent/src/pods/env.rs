//! A container's environment: services, `envFrom`, `env`, in that order of precedence from weak to strong.

use super::expand::expand;
use super::fields::{self, Surroundings};
use crate::error::{Error, Result};
use crate::references::Lookup;
use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, Service};
use std::collections::BTreeMap;

/// What an environment is made from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What the node knows.
    pub around: &'a Surroundings,
    /// ConfigMaps and Secrets.
    pub lookup: &'a dyn Lookup,
    /// Services of the pod's namespace, and default/kubernetes.
    pub services: &'a [Service],
}

/// The environment, as (name, value) pairs with unique names.
///
/// # Errors
/// When a ConfigMap, Secret or key is missing that is not optional.
pub fn environment(sources: &Sources<'_>, container: &Container) -> Result<Vec<(String, String)>> {
    let mut vars: Vec<(String, String)> = service_variables(sources);
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let values = if let Some(r) = &from.config_map_ref {
            sources.texts("configmap", &r.name, r.optional, |l, ns, n| {
                l.config_map(ns, n).map(|m| m.data.unwrap_or_default())
            })?
        } else if let Some(r) = &from.secret_ref {
            sources.texts("secret", &r.name, r.optional, |l, ns, n| l.secret(ns, n).map(|s| secret_texts(s.data)))?
        } else {
            BTreeMap::new()
        };
        for (key, value) in values {
            put(&mut vars, format!("{prefix}{key}"), value);
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (_, Some(source)) => match sources.value(container, source)? {
                Some(v) => v,
                None => continue,
            },
            (text, None) => expand(text.as_deref().unwrap_or_default(), |n| get(&vars, n)),
        };
        put(&mut vars, var.name.clone(), value);
    }
    Ok(vars)
}

/// The command line with `$(NAME)` replaced: (command, args).
pub fn command(container: &Container, vars: &[(String, String)]) -> (Vec<String>, Vec<String>) {
    let each = |list: &Option<Vec<String>>| list.iter().flatten().map(|t| expand(t, |n| get(vars, n))).collect();
    (each(&container.command), each(&container.args))
}

fn get(vars: &[(String, String)], name: &str) -> Option<String> {
    vars.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
}

fn put(vars: &mut Vec<(String, String)>, name: String, value: String) {
    match vars.iter_mut().find(|(n, _)| *n == name) {
        Some(slot) => slot.1 = value,
        None => vars.push((name, value)),
    }
}

fn secret_texts(data: Option<BTreeMap<String, k8s_openapi::ByteString>>) -> BTreeMap<String, String> {
    data.unwrap_or_default().into_iter().map(|(k, v)| (k, String::from_utf8_lossy(&v.0).into_owned())).collect()
}

impl Sources<'_> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// All texts of a ConfigMap or Secret; none if it is missing and optional.
    fn texts(
        &self,
        what: &str,
        name: &str,
        optional: Option<bool>,
        read: impl Fn(&dyn Lookup, &str, &str) -> Option<BTreeMap<String, String>>,
    ) -> Result<BTreeMap<String, String>> {
        match read(self.lookup, self.namespace(), name) {
            Some(texts) => Ok(texts),
            None if optional == Some(true) => Ok(BTreeMap::new()),
            None => Err(Error::Pod(format!("{what} {name:?} not found"))),
        }
    }

    /// A variable's value; None where it is optional and missing.
    fn value(&self, container: &Container, source: &EnvVarSource) -> Result<Option<String>> {
        if let Some(f) = &source.field_ref {
            return fields::field(self.pod, self.around, &f.field_path).map(Some);
        }
        if let Some(r) = &source.resource_field_ref {
            let spec = self.pod.spec.as_ref();
            let named = r.container_name.as_deref().filter(|n| !n.is_empty());
            let other = named.and_then(|n| super::spec::find(spec?, n));
            let of = other.as_ref().map_or(container, |(c, _)| c);
            return fields::resource(of, self.around, r).map(Some);
        }
        let (what, name, key, optional, texts) = if let Some(r) = &source.config_map_key_ref {
            let texts = self.texts("configmap", &r.name, r.optional, |l, ns, n| {
                l.config_map(ns, n).map(|m| m.data.unwrap_or_default())
            })?;
            ("ConfigMap", &r.name, &r.key, r.optional, texts)
        } else if let Some(r) = &source.secret_key_ref {
            let texts =
                self.texts("secret", &r.name, r.optional, |l, ns, n| l.secret(ns, n).map(|s| secret_texts(s.data)))?;
            ("Secret", &r.name, &r.key, r.optional, texts)
        } else {
            return Ok(None);
        };
        match texts.get(key) {
            Some(v) => Ok(Some(v.clone())),
            None if optional == Some(true) => Ok(None),
            None => Err(Error::Pod(format!("couldn't find key {key} in {what} {}/{name}", self.namespace()))),
        }
    }
}

/// `NAME_SERVICE_HOST` and its kin. Of other namespaces only the API itself is told.
fn service_variables(sources: &Sources<'_>) -> Vec<(String, String)> {
    let links = sources.pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let mut vars = Vec::new();
    for service in sources.services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let api = namespace == "default" && name == "kubernetes";
        if api || (links && namespace == sources.namespace()) {
            variables_of(service, name, &mut vars);
        }
    }
    vars
}

fn variables_of(service: &Service, name: &str, vars: &mut Vec<(String, String)>) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first().filter(|_| !matches!(ip, "" | "None")) else { return };
    let base = name.to_uppercase().replace('-', "_");
    put(vars, format!("{base}_SERVICE_HOST"), ip.to_owned());
    put(vars, format!("{base}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(n) = port.name.as_deref().filter(|n| !n.is_empty()) {
            put(vars, format!("{base}_SERVICE_PORT_{}", n.to_uppercase().replace('-', "_")), port.port.to_string());
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{ip}:{}", protocol.to_lowercase(), port.port);
        if i == 0 {
            put(vars, format!("{base}_PORT"), url.clone());
        }
        let prefix = format!("{base}_PORT_{}_{protocol}", port.port);
        put(vars, prefix.clone(), url);
        put(vars, format!("{prefix}_PROTO"), protocol.to_lowercase());
        put(vars, format!("{prefix}_PORT"), port.port.to_string());
        put(vars, format!("{prefix}_ADDR"), ip.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use serde_json::json;

    struct Objects;
    impl Lookup for Objects {
        fn config_map(&self, _: &str, name: &str) -> Option<ConfigMap> {
            (name == "cm").then(|| serde_json::from_value(json!({"data": {"k": "v"}})).unwrap())
        }
        fn secret(&self, _: &str, name: &str) -> Option<Secret> {
            (name == "s").then(|| serde_json::from_value(json!({"data": {"p": "cHc="}})).unwrap())
        }
    }

    fn made(container: serde_json::Value) -> Result<Vec<(String, String)>> {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": []}}))
                .unwrap();
        let services: Vec<Service> = serde_json::from_value(json!([
            {"metadata": {"name": "my-db", "namespace": "n"}, "spec": {"clusterIP": "10.43.0.7", "ports": [{"port": 5432, "name": "pg"}]}},
            {"metadata": {"name": "other", "namespace": "m"}, "spec": {"clusterIP": "10.43.0.8", "ports": [{"port": 1}]}},
            {"metadata": {"name": "headless", "namespace": "n"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}},
        ]))
        .unwrap();
        let around = Surroundings { pod_ips: vec!["10.42.0.5".into()], ..Default::default() };
        let sources = Sources { pod: &pod, around: &around, lookup: &Objects, services: &services };
        environment(&sources, &serde_json::from_value(container).unwrap())
    }

    #[test]
    fn values_from_everywhere() {
        let vars = made(json!({"name": "c",
        "envFrom": [{"prefix": "X_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}],
        "env": [
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "URL", "value": "http://$(IP)/$(X_k)/$(NOPE)"},
            {"name": "p", "value": "over"},
            {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "k", "optional": true}}},
        ]}))
        .unwrap();
        let of = |n: &str| get(&vars, n);
        assert_eq!(of("URL").as_deref(), Some("http://10.42.0.5/v/$(NOPE)"));
        assert_eq!((of("p").as_deref(), of("MAYBE")), (Some("over"), None));
        assert_eq!(of("MY_DB_SERVICE_PORT_PG").as_deref(), Some("5432"));
        assert_eq!(of("MY_DB_PORT_5432_TCP").as_deref(), Some("tcp://10.43.0.7:5432"));
        assert!(of("OTHER_SERVICE_HOST").is_none() && of("HEADLESS_SERVICE_HOST").is_none());
    }

    #[test]
    fn what_is_missing_is_named() {
        let e = made(
            json!({"name": "c", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "q"}}}]}),
        );
        assert_eq!(e.unwrap_err().to_string(), "couldn't find key q in Secret n/s");
        let e = made(json!({"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]}));
        assert_eq!(e.unwrap_err().to_string(), "configmap \"gone\" not found");
    }
}
