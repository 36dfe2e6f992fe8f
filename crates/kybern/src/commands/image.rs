//! `kybern image`: images from files onto nodes.

use crate::cli::ImageCommand;
use crate::dev::cluster::Cluster;
use anyhow::{Context, Result, bail};
use kybern_node_agent::config::Paths;
use kybern_node_agent::images::archive;
use kybern_node_agent::images::import::Importer;
use kybern_node_agent::runtime::cri::{Cri, channel};
use std::path::{Path, PathBuf};

/// Runs a `kybern image` command.
///
/// # Errors
/// One line with the cause and what to do.
pub fn run(command: ImageCommand) -> Result<()> {
    let ImageCommand::Import { file, cluster, containerd } = command;
    let nodes: Vec<(String, PathBuf)> = match containerd {
        Some(socket) => vec![("this node".into(), socket)],
        None => sockets(&Cluster::existing(&cluster.name)?),
    };
    if nodes.is_empty() {
        bail!("cluster {} has no nodes to import onto", cluster.name);
    }
    let scratch = std::env::temp_dir().join(format!("kybern-import-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(import(&file, &scratch, &nodes));
    std::fs::remove_dir_all(&scratch).ok();
    done
}

fn sockets(cluster: &Cluster) -> Vec<(String, PathBuf)> {
    let socket = |h| Paths::new(&cluster.host_dir(h), &cluster.host_run_dir(h)).containerd_socket();
    cluster.nodes().map(|h| (h.name.clone(), socket(h))).collect()
}

async fn import(file: &Path, scratch: &Path, nodes: &[(String, PathBuf)]) -> Result<()> {
    let bundle = archive::open(file, scratch)?;
    for (node, socket) in nodes {
        let to_node = || format!("{node}: is it running? (its containerd: {})", socket.display());
        let channel = channel(socket).with_context(to_node)?;
        let cri = Cri::new(channel.clone());
        let lease = format!("kybern-import-{}", std::process::id());
        let names = Importer::new(channel).import(&bundle, &cri, &lease).await.with_context(to_node)?;
        println!("{node}: {}", names.join(", "));
    }
    Ok(())
}
