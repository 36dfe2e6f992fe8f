//! The README's commands again and again: on nothing, on a running cluster, on the remains of a dead one.

use super::leftovers::{Inventory, processes};
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::Instant;

/// The cluster's name: not the one a person's up.sh uses.
const NAME: &str = "soak";

pub(super) fn run() -> Result<()> {
    let before = Inventory::take()?;
    let others = processes()?;
    if !others.is_empty() {
        bail!("other clusters run here, and this soak kills everything: {}", others.join(", "));
    }
    script("up.sh", "on nothing")?;
    script("up.sh", "on the running cluster")?;
    let killed = kill_all()?;
    println!("    SIGKILL to {killed} processes");
    script("up.sh", "after everything was killed")?;
    script("down.sh", "")?;
    before.nothing_new()?;
    println!("    nothing is left");
    Ok(())
}

fn script(name: &str, when: &str) -> Result<()> {
    let begun = Instant::now();
    let out = Command::new(format!("deploy/{name}")).env("KYBERN_NAME", NAME).output().context("deploy/")?;
    let said = String::from_utf8_lossy(&out.stdout);
    if !out.status.success() {
        bail!("{name} {when}: {said}{}", String::from_utf8_lossy(&out.stderr));
    }
    if name == "up.sh" {
        let count = |what: &str, is: fn(&str) -> bool| {
            let n = said.lines().filter(|l| is(l)).count();
            if n == 0 { Err(anyhow::anyhow!("{name} {when} shows no {what}:\n{said}")) } else { Ok(n) }
        };
        let nodes = count("Ready node", |l| l.split_whitespace().nth(1) == Some("Ready"))?;
        let pods = count("Running pod", |l| l.split_whitespace().nth(2) == Some("Running"))?;
        if (nodes, pods) != (2, 3) {
            bail!("{name} {when}: {nodes} Ready nodes and {pods} Running pods:\n{said}");
        }
    }
    println!("    {name} {when}: {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// SIGKILL to every program of the cluster, containers' shims included; how many there were.
fn kill_all() -> Result<usize> {
    let mut killed = 0;
    // What is killed early may start others before it dies.
    for _ in 0..3 {
        let ids: Vec<String> = processes()?.iter().filter_map(|p| Some(p.split(' ').nth(1)?.to_owned())).collect();
        if ids.is_empty() {
            break;
        }
        killed += ids.len();
        Command::new("kill").arg("-KILL").args(&ids).output().context("kill")?;
    }
    Ok(killed)
}
