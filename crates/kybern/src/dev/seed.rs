//! What a dev cluster needs before its first server starts: keys, join tokens and a kubeconfig. Made
//! here so that all hosts can start at once.

use super::cluster::Cluster;
use crate::{clock, keys, kubeconfigs};
use anyhow::{Context, Result};
use kybern_api::seam::{Clock, SystemClock};
use kybern_authn::join::JoinToken;

/// Makes the first server's keys, the cluster's tokens and the administrator's kubeconfig.
///
/// # Errors
/// When a file can't be written.
pub fn prepare(cluster: &mut Cluster) -> Result<()> {
    let moved = clock::of_cluster()?;
    let first = cluster.servers().next().context("a cluster has a server")?;
    let keys = keys::load_or_create(&cluster.host_dir(first), clock::founding(SystemClock::default(), moved))?;
    cluster.server_token = JoinToken::generate(keys.server_ca.der())?.to_string();
    cluster.agent_token = JoinToken::generate(keys.server_ca.der())?.to_string();
    let (name, server) = (format!("kybern-{}", cluster.name), format!("https://127.0.0.1:{}", cluster.gate_port));
    kubeconfigs::create(&cluster.kubeconfig(), &name, &server, &keys, moved.now())
}

/// Renews the administrator's kubeconfig where it has grown old since.
///
/// # Errors
/// When the keys can't be read or the file not be written.
pub fn renew(cluster: &Cluster) -> Result<()> {
    let first = cluster.servers().next().context("a cluster has a server")?;
    let Some(keys) = keys::load(&cluster.host_dir(first))? else { return Ok(()) };
    kubeconfigs::renew(&cluster.kubeconfig(), &keys, clock::of_cluster()?.now()).map(|_| ())
}
