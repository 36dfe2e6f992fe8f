//! A thousand pods that come and go, and two hundred whose agent, containerd and shims are killed: the
//! tests of tests/e2e/tests/soak_node.rs, on a cluster of their own.

use super::cluster::Cluster;
use super::leftovers::Inventory;
use anyhow::{Context, Result, bail};
use std::process::Command;

pub(super) fn run() -> Result<()> {
    let before = Inventory::take()?;
    let cluster = Cluster::create("soak", 1, 1)?;
    for (test, cycles) in [("pods_that_come_and_go", "1000"), ("every_pod_ends_rightly", "200")] {
        let mut command = Command::new("cargo");
        command.args(["test", "--release", "--package", "kybern-e2e", "--test", "soak_node", "--"]);
        command.args(["--ignored", "--nocapture", test]).env("CYCLES", cycles);
        cluster.tell(&mut command);
        if !command.status().context("cargo")?.success() {
            bail!("{test} failed");
        }
    }
    drop(cluster);
    before.nothing_new()
}
