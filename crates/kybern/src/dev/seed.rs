//! What a dev cluster needs before its first server starts: keys, join tokens and a kubeconfig. Made
//! here so that all hosts can start at once.

use super::cluster::Cluster;
use crate::keys;
use anyhow::{Context, Result};
use kybern_api::seam::{Clock, SystemClock};
use kybern_authn::join::JoinToken;
use kybern_authn::pki::Kubeconfig;

/// Makes the first server's keys, the cluster's tokens and the administrator's kubeconfig.
///
/// # Errors
/// When a file can't be written.
pub fn prepare(cluster: &mut Cluster) -> Result<()> {
    let now = SystemClock::default().now();
    let first = cluster.servers().next().context("a cluster has a server")?;
    let keys = keys::load_or_create(&cluster.host_dir(first), now)?;
    cluster.server_token = JoinToken::generate(keys.server_ca.der())?.to_string();
    cluster.agent_token = JoinToken::generate(keys.server_ca.der())?.to_string();
    let kubeconfig = Kubeconfig {
        cluster: &format!("kybern-{}", cluster.name),
        server: &format!("https://127.0.0.1:{}", cluster.gate_port),
        ca: &keys.server_ca.certificate_pem(),
        user: "kybern-admin",
        identity: &keys.admin_certificate(now)?,
    };
    Ok(kubeconfig.write(&cluster.kubeconfig())?)
}
