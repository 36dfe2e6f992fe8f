//! `kybern image`: images from files onto nodes, what is there, and away again.

use crate::cli::{ImageCommand, OnNodes};
use crate::dev::cluster::Cluster;
use anyhow::{Context, Result, bail};
use kybern_node_agent::config::Paths;
use kybern_node_agent::images::archive;
use kybern_node_agent::images::import::Importer;
use kybern_node_agent::images::{gc, reference};
use kybern_node_agent::runtime::Runtime;
use kybern_node_agent::runtime::cri::{Cri, channel};
use std::path::{Path, PathBuf};

/// A node's name and its containerd's socket.
type Node = (String, PathBuf);

/// Runs a `kybern image` command.
///
/// # Errors
/// One line with the cause and what to do.
pub fn run(command: ImageCommand) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            ImageCommand::Import { file, onto } => import(&file, &nodes(onto)?).await,
            ImageCommand::List { onto } => list(&nodes(onto)?).await,
            ImageCommand::Rm { images, onto } => remove(&images, &nodes(onto)?).await,
            ImageCommand::Prune { onto } => prune(&nodes(onto)?).await,
        }
    })
}

fn nodes(onto: OnNodes) -> Result<Vec<Node>> {
    if let Some(socket) = onto.containerd {
        return Ok(vec![("this node".into(), socket)]);
    }
    let cluster = Cluster::existing(&onto.cluster.name)?;
    let socket = |h| Paths::new(&cluster.host_dir(h), &cluster.host_run_dir(h)).containerd_socket();
    let found: Vec<Node> = cluster.nodes().map(|h| (h.name.clone(), socket(h))).collect();
    if found.is_empty() {
        bail!("cluster {} has no nodes", onto.cluster.name);
    }
    Ok(found)
}

/// What to say when a node's containerd does not answer.
fn unreachable(node: &Node) -> impl Fn() -> String {
    let text = format!("{}: is it running? (its containerd: {})", node.0, node.1.display());
    move || text.clone()
}

fn cri(node: &Node) -> Result<Cri> {
    Ok(Cri::new(channel(&node.1).with_context(unreachable(node))?))
}

async fn import(file: &Path, nodes: &[Node]) -> Result<()> {
    let scratch = std::env::temp_dir().join(format!("kybern-import-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let done = import_from(file, &scratch, nodes).await;
    std::fs::remove_dir_all(&scratch).ok();
    done
}

async fn import_from(file: &Path, scratch: &Path, nodes: &[Node]) -> Result<()> {
    let bundle = archive::open(file, scratch)?;
    for node in nodes {
        let channel = channel(&node.1).with_context(unreachable(node))?;
        let cri = Cri::new(channel.clone());
        let lease = format!("kybern-import-{}", std::process::id());
        let names = Importer::new(channel).import(&bundle, &cri, &lease).await.with_context(unreachable(node))?;
        println!("{}: {}", node.0, names.join(", "));
    }
    Ok(())
}

async fn list(nodes: &[Node]) -> Result<()> {
    println!("{:<16} {:<14} {:>10}  NAME", "NODE", "ID", "SIZE");
    for node in nodes {
        let mut images = cri(node)?.images().await.with_context(unreachable(node))?;
        images.sort_by(|a, b| a.repo_tags.cmp(&b.repo_tags));
        for image in images {
            let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
            println!("{:<16} {:<14} {:>10}  {}", node.0, short(&image.id), size(image.size), names.join(", "));
        }
    }
    Ok(())
}

/// The first digits of an id, as people copy them.
fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_000_000 => format!("{} kB", tenths(1000)),
        1_000_000..1_000_000_000 => format!("{} MB", tenths(1_000_000)),
        _ => format!("{} GB", tenths(1_000_000_000)),
    }
}

async fn remove(images: &[String], nodes: &[Node]) -> Result<()> {
    let mut found = false;
    for node in nodes {
        let cri = cri(node)?;
        let present = cri.images().await.with_context(unreachable(node))?;
        for wanted in images {
            let full = reference::normalise(wanted);
            let named = |n: &String| full.as_ref() == Some(n);
            let matches = present.iter().filter(|i| {
                i.repo_tags.iter().chain(&i.repo_digests).any(named) || *wanted == i.id || *wanted == short(&i.id)
            });
            for image in matches {
                found = true;
                cri.remove_image(&image.id).await.with_context(unreachable(node))?;
                println!("{}: removed {wanted}", node.0);
            }
        }
    }
    if !found {
        bail!("no node has {}", images.join(" or "));
    }
    Ok(())
}

async fn prune(nodes: &[Node]) -> Result<()> {
    for node in nodes {
        let cri = cri(node)?;
        let unused = gc::unused(&cri).await.with_context(unreachable(node))?;
        let freed: u64 = unused.iter().map(|i| i.size).sum();
        for image in &unused {
            cri.remove_image(&image.id).await.with_context(unreachable(node))?;
        }
        println!("{}: removed {} images, {}", node.0, unused.len(), size(freed));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_sizes_are_short() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        let sizes = [1234, 5_600_000, 1_250_000_000].map(size);
        assert_eq!(sizes, ["1.2 kB", "5.6 MB", "1.2 GB"]);
    }
}
