//! Service `default/kubernetes`: how pods reach the API, with the addresses of all live servers.
//!
//! Each server notes in the store that it lives, under a key that expires unless it is renewed. Every
//! server follows these notes and writes the same Endpoints and EndpointSlice; a write that would
//! change nothing is none, so it does not matter who comes first.

use crate::doors::local::LocalTransport;
use crate::error::Error;
use crate::registry::bootstrap::{ensure, failed};
use crate::registry::commit::{self, SERVERS};
use crate::server::ApiServer;
use kybern_api::error::Reason;
use kybern_api::validate::special;
use kybern_client::transport::{Resource, Target, Transport, Write};
use kybern_raftstore::model::WatchItem;
use kybern_raftstore::store::Store;
use kybern_wire::node::Server;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";
/// Port of the Service.
const PORT: u16 = 443;
/// A server that stopped renewing its note is gone after so many seconds.
const TTL: u64 = 15;
/// The note is renewed this often: two renewals may fail.
const RENEW: Duration = Duration::from_secs(5);
/// Pause after a failure before the next try.
const RETRY: Duration = Duration::from_millis(500);

/// Keeps the system's objects, the Service and this server's note until the server drains.
pub(crate) async fn keep(server: ApiServer) {
    let drain = server.0.drain.clone();
    let renewing = async {
        loop {
            let pause = match commit::announce(&server.0, TTL).await {
                Ok(()) => RENEW,
                Err(error) => {
                    tracing::debug!(%error, "cannot note that this server lives");
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    let following = async {
        while let Err(error) = follow(&server).await {
            tracing::debug!(error = ?error, "the API's own objects are not kept for a moment");
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = renewing => {}
        () = following => {}
        () = drain.cancelled() => {
            if let Err(error) = commit::retire(&server.0).await {
                tracing::debug!(%error, "this server's note stays until it expires");
            }
        }
    }
}

/// Writes what follows from the live servers, now and at each change of them.
async fn follow(server: &ApiServer) -> Result<(), Error> {
    server.bootstrap().await?;
    let client = server.own_transport();
    let mut watch = server.0.store.watch(bytes::Bytes::from_static(SERVERS), 0)?;
    ensure_service(server, &client).await?;
    let mut known = None;
    loop {
        let live = live(server.0.store.as_ref());
        if known.as_ref() != Some(&live) && !live.is_empty() {
            let published = live.iter().map(|(a, id)| Server { id: *id, address: a.to_string() }).collect();
            server.publish_servers(published);
            // What each machine has for itself leads no pod here.
            let addresses: Vec<SocketAddr> = live.keys().filter(|a| special(a.ip()).is_none()).copied().collect();
            write(&client, &Resource::new("", "v1", "endpoints"), endpoints(&addresses)).await?;
            write(&client, &Resource::new("discovery.k8s.io", "v1", "endpointslices"), slice(&addresses)).await?;
            known = Some(live);
        }
        // Renewals are events as well; what they change is nothing.
        while !matches!(watch.next().await?, WatchItem::Events(..)) {}
    }
}

/// The live servers' addresses and member ids.
fn live(store: &dyn Store) -> BTreeMap<SocketAddr, u64> {
    let end = crate::cache::feeder::end_of(SERVERS);
    let (notes, _) = store.view().range(SERVERS, &end, 0);
    let read = |key: &[u8], value: &[u8]| {
        let address = std::str::from_utf8(&key[SERVERS.len()..]).ok()?.parse().ok()?;
        Some((address, std::str::from_utf8(value).ok()?.parse().ok()?))
    };
    notes.iter().filter_map(|n| read(&n.key, &n.value)).collect()
}

async fn ensure_service(server: &ApiServer, client: &LocalTransport) -> Result<(), Error> {
    let ranges = &server.0.ranges;
    let address = ranges.services.hosts().next().map(|a| a.to_string()).unwrap_or_default();
    let body = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"component": "apiserver", "provider": NAME}},
        "spec": {
            "clusterIP": address, "type": "ClusterIP", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": PORT, "protocol": "TCP", "targetPort": server.0.config.advertise.port()}],
        },
    });
    ensure(client, &Resource::new("", "v1", "services"), NAMESPACE, body).await
}

fn endpoints(addresses: &[SocketAddr]) -> Value {
    let mut by_port: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
    for a in addresses {
        by_port.entry(a.port()).or_default().push(json!({"ip": a.ip().to_string()}));
    }
    let subsets: Vec<Value> = by_port
        .into_iter()
        .map(|(port, ips)| json!({"addresses": ips, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}))
        .collect();
    // Mirrored by nobody: the slice is written beside it.
    let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels}, "subsets": subsets,
    })
}

fn slice(addresses: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|a| json!({"addresses": [a.ip().to_string()], "conditions": {"ready": true}})).collect();
    let port = addresses.first().map_or(PORT, SocketAddr::port);
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    })
}

/// Replaces an object, or creates it.
async fn write(client: &LocalTransport, resource: &Resource, body: Value) -> Result<(), Error> {
    let target = Target {
        resource: resource.clone(),
        namespace: NAMESPACE.to_owned(),
        name: NAME.to_owned(),
        subresource: String::new(),
        query: Vec::new(),
        term: 0,
    };
    match client.write(&target, Write::Update(body.to_string().into())).await {
        Ok(_) => Ok(()),
        Err(e) if e.reason == Reason::NotFound => ensure(client, resource, NAMESPACE, body).await,
        Err(e) => Err(failed(resource, &body, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_one_port_share_a_subset() {
        let addresses = ["10.0.0.1:6443", "10.0.0.2:6443", "10.0.0.3:7443"].map(|a| a.parse().expect("an address"));
        let subsets = endpoints(&addresses)["subsets"].clone();
        assert_eq!(subsets[0]["addresses"], json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]));
        assert_eq!(subsets[1]["ports"][0]["port"], 7443);
        assert_eq!(slice(&addresses)["endpoints"][2]["addresses"], json!(["10.0.0.3"]));
    }
}
