//! A node: learns the cluster's CA with its token, then runs the node agent.

use crate::cli::AgentArgs;
use crate::config::{Agent as Settings, Part};
use crate::{footprint, telemetry};
use anyhow::{Context, Result, bail};
use kybern_api::meta::quantity::Quantity;
use kybern_api::seam::SystemIds;
use kybern_authn::join::JoinToken;
use kybern_authn::pki;
use kybern_authn::tls;
use kybern_node_agent::agent::{Agent, Join, Networks};
use kybern_node_agent::cni::Backend;
use kybern_node_agent::config::{Config, Taint};
use kybern_node_agent::node::pressure::Thresholds;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// How long an agent waits for the server it was pointed at.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries while that server does not answer yet.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Runs a node until it is told to stop; its containers go on.
///
/// # Errors
/// One line with the cause and what to do.
pub fn run(args: AgentArgs) -> Result<()> {
    let (debug, otlp) = (args.debug, args.otlp_endpoint.clone());
    let settings = Settings::resolve(args)?;
    if !nix::unistd::geteuid().is_root() {
        bail!("an agent needs root for containers and networks; run it with sudo");
    }
    super::runtime()?.block_on(async {
        let _telemetry = telemetry::start("kybern-agent", debug, otlp.as_deref())?;
        tls::provider().as_ref().clone().install_default().ok();
        let stop = super::until_told_to_stop()?;
        footprint::shrink_when_started(stop.clone());
        work(settings, stop).await
    })
}

async fn work(settings: Settings, stop: CancellationToken) -> Result<()> {
    let address = settings.server.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let token = settings.token.as_deref().map(str::parse::<JoinToken>).transpose().context("--token can't be used")?;
    let join = Join {
        ca: authority(&settings.data_dir, &address, token.as_ref()).await?,
        ca_file: authority_file(&settings.data_dir),
        servers: vec![address],
        bearer: token.as_ref().map(JoinToken::bearer),
    };
    let networks =
        Networks { pods: settings.cluster_cidr, services: settings.service_cidr, backend: Backend::default() };
    let config = config(&settings)?;
    let agent = Agent::new(config, join, networks, Arc::new(crate::clock::of_cluster()?), Arc::new(SystemIds));
    Ok(agent.run(stop).await?)
}

fn config(settings: &Settings) -> Result<Config> {
    let mut config = Config::new(&settings.name, &settings.data_dir, &settings.run_dir, IpAddr::V4(settings.address));
    config.cgroup_root = format!("/{}", settings.cgroup_root.trim_matches('/'));
    config.runtime_endpoint.clone_from(&settings.runtime_endpoint);
    config.labels = settings.labels.iter().cloned().collect();
    config.taints = settings.taints.iter().map(|t| taint(t)).collect::<Result<_>>()?;
    config.upstream_dns.clone_from(&settings.upstream_dns);
    config.unsafe_sysctls.clone_from(&settings.unsafe_sysctls);
    config.registries.clone_from(&settings.registries);
    config.manifests.clone_from(&settings.manifests);
    config.reserved = settings.reserved.iter().map(|(k, v)| reserved(k, v)).collect::<Result<_>>()?;
    config.image_gc = settings.image_gc;
    config.offline_restart = settings.offline_restart;
    config.share_images = !settings.disabled.contains(&Part::ImageSharing);
    config.eviction = match settings.eviction_hard.as_slice() {
        [] => Thresholds::default(),
        written => Thresholds::parse(written).map_err(|e| anyhow::anyhow!("--eviction-hard {e}"))?,
    };
    if settings.disabled.contains(&Part::Ingress) {
        config.labels.insert(kybern_api::ingress::SWITCH.into(), "false".into());
    } else {
        let at = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let (http, https) = settings.ingress_ports;
        config.ingress = Some(kybern_ingress::Config { http: at(http), https: at(https) });
    }
    let dns = settings.service_cidr.hosts().nth(9).context("--service-cidr has no tenth address for DNS")?;
    config.cluster_dns = vec![IpAddr::V4(dns)];
    Ok(config)
}

fn reserved(resource: &str, quantity: &str) -> Result<(String, Quantity)> {
    if !["cpu", "memory", "ephemeral-storage", "pid"].contains(&resource) {
        bail!("--system-reserved {resource}: must be cpu, memory, ephemeral-storage or pid");
    }
    let parsed = quantity.parse().map_err(|e| anyhow::anyhow!("--system-reserved {resource}={quantity}: {e}"))?;
    Ok((resource.to_owned(), parsed))
}

fn taint(text: &str) -> Result<Taint> {
    let wrong = || format!("--node-taint {text}: must be key=value:effect");
    let (pair, effect) = text.rsplit_once(':').with_context(wrong)?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        bail!("--node-taint {text}: the effect must be NoSchedule, PreferNoSchedule or NoExecute");
    }
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok(Taint { key: key.into(), value: value.into(), effect: effect.into() })
}

/// Where a node keeps the servers' CAs.
fn authority_file(data_dir: &Path) -> PathBuf {
    data_dir.join("agent/server-ca.crt")
}

/// The servers' CA: the one kept from an earlier start, or the one whose hash the token carries.
async fn authority(data_dir: &Path, address: &str, token: Option<&JoinToken>) -> Result<String> {
    let path = authority_file(data_dir);
    if let Ok(kept) = std::fs::read_to_string(&path) {
        if let Some(token) = token {
            of_the_same_cluster(data_dir, &kept, address, token).await?;
        }
        return Ok(kept);
    }
    let token = token.context("--token is missing: make one on a server with `kybern token create`")?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let pem = loop {
        match learn(address, token).await {
            Ok(pem) => break pem,
            Err(e) if tokio::time::Instant::now() > deadline => {
                return Err(e)
                    .with_context(|| format!("{address} could not be reached within {} s", PATIENCE.as_secs()));
            }
            Err(e) if e.is::<Stranger>() => return Err(e),
            Err(_) => tokio::time::sleep(TRY_AGAIN).await,
        }
    };
    pki::write_private(&path, pem.as_bytes(), false)?;
    Ok(pem)
}

/// Refuses the data of one cluster with the server and token of another. A token alone proves nothing: it
/// may be older than the cluster's present CA.
async fn of_the_same_cluster(data_dir: &Path, kept: &str, address: &str, token: &JoinToken) -> Result<()> {
    let known = pki::certificates(kept).context("the kept CA is damaged")?;
    let hash = hex::encode(token.ca_hash);
    if known.iter().any(|c| pki::fingerprint(c) == hash) || learn(address, token).await.is_err() {
        return Ok(());
    }
    bail!(
        "{} holds the data of another cluster than that of {address} and the token; choose another --data-dir, or remove it",
        data_dir.display()
    )
}

/// The server does not belong to the token's cluster.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a server of the cluster that made this token: its CA has another hash")]
struct Stranger(String);

/// Connects once, pinned to the token's hash, and takes the CA out of the server's chain.
async fn learn(address: &str, token: &JoinToken) -> Result<String> {
    let host = address.rsplit_once(':').map_or(address, |(h, _)| h);
    let name = ServerName::try_from(host.to_owned()).with_context(|| format!("--server {address}"))?;
    let connector = TlsConnector::from(Arc::new(tls::pinned_client(token.ca_hash)?));
    let stream = TcpStream::connect(address).await.context("connect")?;
    let tls = match connector.connect(name, stream).await {
        Ok(tls) => tls,
        Err(e) if e.get_ref().is_some_and(|i| i.is::<rustls::Error>()) => bail!(Stranger(address.to_owned())),
        Err(e) => return Err(e).context("TLS"),
    };
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let hash = hex::encode(token.ca_hash);
    let ca = chain.iter().find(|c| pki::fingerprint(c) == hash);
    let ca = ca.with_context(|| format!("{address} did not send its CA"))?;
    Ok(pki::certificate_pem(ca))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_read_as_kubectl_writes_them() {
        let t = taint("dedicated=gpu:NoSchedule").unwrap();
        assert_eq!((t.key.as_str(), t.value.as_str(), t.effect.as_str()), ("dedicated", "gpu", "NoSchedule"));
        assert_eq!(taint("dedicated:NoExecute").unwrap().value, "");
        assert!(taint("dedicated=gpu").is_err());
        assert!(taint("dedicated=gpu:Sometimes").is_err());
    }
}
