//! `cargo xtask bench [api|node|scale]`: figures of a fresh cluster on this machine, beside the limits measured in the same
//! run. Nothing here asserts; a figure is judged by its ratio to a limit or a peer.

mod client;
mod cluster;
mod limits;
mod load;
mod node;
mod process;
mod rollout;
mod scale;

use anyhow::Result;
use client::Api;
use cluster::Cluster;
use std::time::Duration;

/// Prints a row of the report.
pub(crate) fn row(what: &str, value: impl std::fmt::Display, target: &str) {
    println!("{what:<58} {value:>16}   {target}");
}

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// Start, size, requests, lists and watches of a small cluster
    Api,
    /// Pods on a real node: how fast they start, beside the runtime alone
    Node,
    /// Many nodes and pods, simulated
    Scale,
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// A small cluster with real nodes; `seconds` is the length of each load.
///
/// # Errors
/// When the cluster can't be made or a request is refused.
pub fn api(seconds: u64) -> Result<()> {
    let runtime = runtime()?;
    let length = Duration::from_secs(seconds);
    println!("limits of this machine, now");
    runtime.block_on(limits::run())?;
    println!("\nstart and size");
    let cluster = Cluster::create(3, 2)?;
    let api = Api::connect(&cluster)?;
    runtime.block_on(rollout::first(&api))?;
    process::idle(&cluster)?;
    println!("\nAPI, three servers, TLS, clients on the same cores");
    runtime.block_on(load::run(&api, length))?;
    process::memory(&cluster, "after the load")
}

/// A server and a node: pods one at a time, a hundred at once, and what they cost when idle.
///
/// # Errors
/// When the cluster can't be made or a request is refused.
pub fn node() -> Result<()> {
    let cluster = Cluster::create(1, 1)?;
    let api = Api::connect(&cluster)?;
    node::run(&runtime()?, &cluster, &api)
}

/// Three servers with many simulated nodes, and `pods` pods running on them before anything is measured.
///
/// # Errors
/// When the cluster can't be made or a request is refused.
pub fn scale(nodes: usize, pods: usize) -> Result<()> {
    let cluster = Cluster::create(3, 0)?;
    let hollow = cluster.hollow(nodes)?;
    let api = Api::connect(&cluster)?;
    runtime()?.block_on(scale::run(&api, nodes, pods))?;
    process::memory(&cluster, "at the end")?;
    process::memory_of("simulated nodes", hollow.pid(), "<= 150 MB for 1,000 nodes");
    Ok(())
}
