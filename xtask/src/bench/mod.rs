//! `cargo xtask bench`: figures of a fresh cluster on this machine, beside the limits measured in the same
//! run. Nothing here asserts; a figure is judged by its ratio to a limit or a peer.

mod client;
mod cluster;
mod limits;
mod load;
mod process;

use anyhow::Result;
use client::Api;
use cluster::Cluster;
use std::time::Duration;

/// Prints a row of the report.
pub(crate) fn row(what: &str, value: impl std::fmt::Display, target: &str) {
    println!("{what:<58} {value:>16}   {target}");
}

/// Runs everything; `seconds` is the length of each load.
///
/// # Errors
/// When the cluster can't be made or a request is refused.
pub fn run(seconds: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let length = Duration::from_secs(seconds);
    println!("limits of this machine, now");
    runtime.block_on(limits::run())?;
    println!("\nstart and size");
    let cluster = Cluster::create()?;
    cluster.first_deployment()?;
    process::idle(&cluster)?;
    println!("\nAPI, three servers, TLS, clients on the same cores");
    let api = Api::connect(&cluster)?;
    runtime.block_on(load::run(&api, length))?;
    process::memory(&cluster, "after the load")?;
    Ok(())
}
