//! EndpointSlices, as those read them that lead traffic to pods: the service proxy, DNS, Ingress, and the
//! proxy of the API.

use serde::{Deserialize, Deserializer};
use std::net::IpAddr;

/// The label that names a slice's Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// An EndpointSlice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Slice {
    /// `IPv4`, `IPv6`, `FQDN`.
    pub address_type: String,
    /// Where traffic may go.
    #[serde(deserialize_with = "or_default")]
    pub endpoints: Vec<Endpoint>,
    /// The ports of all of them.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<Port>,
}

/// One place that traffic may go to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Its address; further ones are not used.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<String>,
    /// The node it is on; empty where it is on none.
    #[serde(deserialize_with = "or_default")]
    pub node_name: String,
    /// Its name in DNS; empty: its address with dashes.
    #[serde(deserialize_with = "or_default")]
    pub hostname: String,
    /// How it does.
    pub conditions: Conditions,
    /// Whom it is for.
    #[serde(deserialize_with = "or_default")]
    pub hints: Hints,
}

/// How an endpoint does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

/// Zones and nodes an endpoint is best used from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    /// By name.
    #[serde(deserialize_with = "or_default")]
    pub for_zones: Vec<Named>,
    /// By name.
    #[serde(deserialize_with = "or_default")]
    pub for_nodes: Vec<Named>,
}

/// A zone or a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Named {
    /// Its name.
    pub name: String,
}

/// A port, of a slice or of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Port {
    /// Empty for a Service's only port.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Empty: TCP.
    #[serde(deserialize_with = "or_default")]
    pub protocol: String,
    /// 0: none in particular.
    #[serde(deserialize_with = "or_default")]
    pub port: u16,
}

/// Null is as absent.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl Port {
    /// `TCP`, `UDP` or `SCTP`.
    pub fn protocol(&self) -> &str {
        if self.protocol.is_empty() { "TCP" } else { &self.protocol }
    }
}

impl Slice {
    /// The number of the port with this name and protocol.
    pub fn port(&self, name: &str, protocol: &str) -> Option<u16> {
        let found = self.ports.iter().find(|p| p.name == name && p.protocol() == protocol)?;
        (found.port > 0).then_some(found.port)
    }
}

impl Endpoint {
    /// Should it get traffic?
    pub fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }
    /// Does it still answer while it ends? Used where nothing is ready.
    pub fn serves_to_its_end(&self) -> bool {
        self.conditions.terminating == Some(true) && self.conditions.serving == Some(true)
    }
    /// Its address, if it is one that traffic may be led to.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.first()?.parse().ok().filter(may_be_led_to)
    }
}

/// Slices are written by people too: they may not lead anybody to the services of the machine they are read
/// on, nor to its neighbours on the link.
pub fn may_be_led_to(ip: &IpAddr) -> bool {
    let ip = ip.to_canonical();
    let link_local = match &ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn slices_are_read_with_and_without_what_may_be_absent() {
        let slice: Slice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "ports": [{"name": "a", "port": 1}, {"name": null, "protocol": "UDP", "port": 2}, {"name": "none", "port": null}],
            "endpoints": [
                {"addresses": ["10.42.0.2"]},
                {"addresses": ["10.42.0.3"], "nodeName": null, "hints": null,
                    "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": null, "conditions": {"ready": null}},
            ],
        }))
        .unwrap();
        assert_eq!(
            (slice.port("a", "TCP"), slice.port("", "UDP"), slice.port("none", "TCP")),
            (Some(1), Some(2), None)
        );
        assert_eq!((slice.port("a", "UDP"), slice.port("b", "TCP")), (None, None));
        let of = |e: &Endpoint| (e.address().map(|a| a.to_string()), e.is_ready(), e.serves_to_its_end());
        let found: Vec<_> = slice.endpoints.iter().map(of).collect();
        let wanted = [(Some("10.42.0.2"), true, false), (Some("10.42.0.3"), false, true), (None, true, false)];
        assert_eq!(found, wanted.map(|(a, ready, serves)| (a.map(str::to_owned), ready, serves)));
        assert_eq!(
            serde_json::from_value::<Slice>(json!({"ports": null, "endpoints": null})).unwrap(),
            Slice::default()
        );
    }

    #[test]
    fn nobody_is_led_to_the_machine_itself() {
        for ip in ["127.0.0.1", "::1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1", "::ffff:127.0.0.1"] {
            assert!(!may_be_led_to(&ip.parse().unwrap()), "{ip}");
        }
        assert!(may_be_led_to(&"192.0.2.1".parse().unwrap()) && may_be_led_to(&"fd00::1".parse().unwrap()));
    }
}
