//! A pod's resolv.conf.

use super::config::host_network;
use crate::config::Config;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kybern_wire::cri as pb;

/// Kubernetes' limits; what is beyond them is left out, and an event tells it.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// The configuration, and what had to be left out.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Resolution {
    /// As CRI takes it.
    pub config: pb::DnsConfig,
    /// Texts for `DNSConfigForming` events.
    pub omitted: Vec<String>,
}

/// A pod's name resolution. `node` is the text of the node's own resolv.conf.
pub fn resolution(config: &Config, pod: &Pod, spec: &PodSpec, node: &str) -> Resolution {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut out = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => pb::DnsConfig::default(),
        "ClusterFirst" if host_network(pod) => parse(node),
        "ClusterFirst" | "ClusterFirstWithHostNet" => {
            let domain = &config.cluster_domain;
            pb::DnsConfig {
                servers: config.cluster_dns.iter().map(ToString::to_string).collect(),
                searches: vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()],
                options: vec!["ndots:5".into()],
            }
        }
        _ => parse(node),
    };
    if let Some(more) = spec.dns_config.clone() {
        extend(&mut out.servers, more.nameservers.unwrap_or_default());
        extend(&mut out.searches, more.searches.unwrap_or_default());
        for option in more.options.unwrap_or_default() {
            let name = option.name.unwrap_or_default();
            out.options.retain(|o| o.split(':').next() != Some(name.as_str()));
            out.options.push(option.value.map_or(name.clone(), |v| format!("{name}:{v}")));
        }
    }
    limit(out)
}

fn extend(list: &mut Vec<String>, more: Vec<String>) {
    for entry in more {
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
}

/// Reads a resolv.conf. The last search line counts, as in the C library.
fn parse(text: &str) -> pb::DnsConfig {
    let mut out = pb::DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => out.servers.extend(words.next()),
            Some("search") => out.searches = words.filter(|s| s != ".").collect(),
            Some("options") => out.options.extend(words),
            _ => {}
        }
    }
    out
}

fn limit(mut config: pb::DnsConfig) -> Resolution {
    let mut omitted = Vec::new();
    if config.servers.len() > MAX_SERVERS {
        config.servers.truncate(MAX_SERVERS);
        let applied = config.servers.join(" ");
        omitted.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {applied}"
        ));
    }
    let chars = |s: &[String]| s.iter().map(|d| d.len() + 1).sum::<usize>().saturating_sub(1);
    if config.searches.len() > MAX_SEARCHES || chars(&config.searches) > MAX_SEARCH_CHARS {
        config.searches.truncate(MAX_SEARCHES);
        while chars(&config.searches) > MAX_SEARCH_CHARS {
            config.searches.pop();
        }
        let applied = config.searches.join(" ");
        omitted.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {applied}"
        ));
    }
    Resolution { config, omitted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    const NODE: &str = "search old.example\nnameserver 192.0.2.53\nsearch corp.example .\noptions edns0 ndots:2\n# x\n";

    fn of(mut spec: serde_json::Value) -> Resolution {
        spec["containers"] = json!([]);
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "ns"}, "spec": spec})).unwrap();
        let config = Config::new("n1", Path::new("/d"), Path::new("/s"), [192, 0, 2, 1].into());
        resolution(&config, &pod, pod.spec.as_ref().unwrap(), NODE)
    }

    #[test]
    fn policies_and_what_is_put_on_top() {
        let cluster = of(json!({})).config;
        assert_eq!(cluster.servers, ["10.43.0.10"]);
        assert_eq!(cluster.searches, ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!(cluster.options, ["ndots:5"]);
        let node = pb::DnsConfig {
            servers: vec!["192.0.2.53".into()],
            searches: vec!["corp.example".into()],
            options: vec!["edns0".into(), "ndots:2".into()],
        };
        assert_eq!(of(json!({"dnsPolicy": "Default"})).config, node);
        assert_eq!(of(json!({"hostNetwork": true})).config, node);
        assert_eq!(of(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})).config, cluster);
        let own = of(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["x.y"]}}));
        assert_eq!(
            (own.config.servers.as_slice(), own.config.searches.as_slice()),
            (&["1.1.1.1".to_owned()][..], &["x.y".to_owned()][..])
        );
        let option = of(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}));
        assert_eq!(option.config.options, ["ndots:2", "edns0"]);
    }

    #[test]
    fn what_is_too_much_is_left_out_and_told() {
        let servers: Vec<String> = (1..5).map(|n| format!("192.0.2.{n}")).collect();
        let searches: Vec<String> = (0..40).map(|n| format!("d{n}.example")).collect();
        let made = of(json!({"dnsConfig": {"nameservers": servers, "searches": searches}}));
        assert_eq!((made.config.servers.len(), made.config.searches.len(), made.omitted.len()), (3, 32, 2));
        assert!(made.omitted[0].ends_with("line is: 10.43.0.10 192.0.2.1 192.0.2.2"), "{}", made.omitted[0]);
    }
}
