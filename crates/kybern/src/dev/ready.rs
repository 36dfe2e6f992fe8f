//! Waits, with visible progress, until every server answers and every node is Ready.

use super::cluster::{Cluster, Host};
use anyhow::{Context, Result, bail};
use kybern_client::http::{HttpConfig, HttpTransport};
use kybern_client::kubeconfig::Kubeconfig;
use kybern_client::set::InformerSet;
use kybern_client::store::{Name, Store};
use kybern_client::transport::Resource;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long everything may take; first starts on slow disks need some of it.
const LIMIT: Duration = Duration::from_secs(90);
/// Between two questions to a server that does not listen yet.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until all of the cluster is ready.
///
/// # Errors
/// Names what is not ready after the limit, and where its log is.
pub async fn wait(cluster: &Cluster, begun: Instant) -> Result<()> {
    let connection = Kubeconfig::load(&cluster.kubeconfig())?.connection()?;
    let report = |what: &str| println!("  {what} after {:.2} s", begun.elapsed().as_secs_f64());
    let servers = futures::future::join_all(cluster.servers().map(|h| server(h, &connection)));
    within(cluster, "the servers", servers).await?;
    report("all servers ready");
    if cluster.nodes().next().is_none() {
        return Ok(());
    }
    let transport = Arc::new(HttpTransport::new(connection)?);
    let cancel = CancellationToken::new();
    let informers = InformerSet::new(transport, HashMap::new(), cancel.clone());
    let nodes = informers.all(&Resource::new("", "v1", "nodes"));
    let names: Vec<Name> = cluster.nodes().map(|h| Name::new("", h.name.as_str())).collect();
    let waited = within(cluster, "the nodes", nodes.until(|s| names.iter().all(|n| is_ready(s, n)))).await;
    cancel.cancel();
    waited?;
    report("all nodes ready");
    Ok(())
}

async fn within<T>(cluster: &Cluster, what: &str, work: impl Future<Output = T>) -> Result<T> {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(done) => Ok(done),
        Err(_) => {
            bail!("{what} are not ready after {} s; see {}/*/kybern.log", LIMIT.as_secs(), cluster.dir().display())
        }
    }
}

/// Asks one server for /readyz, directly, until it says ok.
async fn server(host: &Host, connection: &HttpConfig) {
    let config = HttpConfig { servers: vec![format!("https://{}:6443", host.address)], ..connection.clone() };
    loop {
        let answer =
            async { HttpTransport::new(config.clone()).context("address")?.get_raw("/readyz").await.context("readyz") };
        if answer.await.is_ok() {
            return;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Node {
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

fn is_ready(nodes: &Store, name: &Name) -> bool {
    let view = nodes.get(name).and_then(|i| i.object.view::<Node>().ok()).unwrap_or_default();
    view.status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True")
}
