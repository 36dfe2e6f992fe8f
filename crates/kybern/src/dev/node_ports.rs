//! The gate's other half: 127.0.0.1:NODEPORT reaches the cluster's nodes, for every Service that has one.

use super::cluster::Cluster;
use super::gate::{Balancer, forward};
use anyhow::Result;
use kybern_client::http::HttpTransport;
use kybern_client::kubeconfig::Kubeconfig;
use kybern_client::set::InformerSet;
use kybern_client::store::Store;
use kybern_client::transport::Resource;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Service {
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    ports: Vec<Port>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    protocol: String,
    node_port: u16,
}

/// Follows the Services until `cancel`; listeners come and go with their node ports.
///
/// # Errors
/// When the cluster's kubeconfig can't be used.
pub async fn follow(cluster: Arc<Cluster>, cancel: CancellationToken) -> Result<()> {
    let connection = Kubeconfig::load(&cluster.kubeconfig())?.connection()?;
    let transport = Arc::new(HttpTransport::new(connection)?);
    let services =
        InformerSet::new(transport, HashMap::new(), cancel.clone()).all(&Resource::new("", "v1", "services"));
    let mut deltas = services.subscribe();
    let nodes: Vec<Ipv4Addr> = cluster.nodes().map(|h| h.address).collect();
    let mut open: BTreeMap<u16, CancellationToken> = BTreeMap::new();
    while let Some(Some(_)) = cancel.run_until_cancelled(deltas.recv()).await {
        let wanted = tcp_ports(&services.store());
        open.retain(|port, listener| {
            wanted.contains(port) || {
                listener.cancel();
                false
            }
        });
        for port in wanted {
            if !open.contains_key(&port)
                && let Some(listener) = listen(port, &nodes, &cancel).await
            {
                open.insert(port, listener);
            }
        }
    }
    Ok(())
}

/// Starts one listener; None when the port is taken by another program.
async fn listen(port: u16, nodes: &[Ipv4Addr], cancel: &CancellationToken) -> Option<CancellationToken> {
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(l) => l,
        Err(e) => {
            tracing::warn!(port, "the node port can't be offered on 127.0.0.1: {e}");
            return None;
        }
    };
    let targets = nodes.iter().map(|n| SocketAddr::from((*n, port))).collect();
    let end = cancel.child_token();
    tokio::spawn(forward(listener, Arc::new(Balancer::new(targets)), end.clone()));
    Some(end)
}

fn tcp_ports(services: &Store) -> BTreeSet<u16> {
    let views = services.iter().filter_map(|i| i.object.view::<Service>().ok());
    let ports =
        views.flat_map(|s| s.spec.ports).filter(|p| p.node_port != 0 && p.protocol != "UDP" && p.protocol != "SCTP");
    ports.map(|p| p.node_port).collect()
}
