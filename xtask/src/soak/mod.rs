//! Long runs on demand: `cargo xtask soak NAME`. Each leaves the machine as it found it.

mod clock;
mod cluster;
mod fuzz;
mod leftovers;
mod offline;
mod pods;
mod power_off;
mod updown;
mod workloads;

use anyhow::{Result, bail};

/// One long run.
struct Soak {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<()>,
}

/// Every soak. A new one is a file and a line here.
const TABLE: &[Soak] = &[
    Soak {
        name: "updown",
        about: "up.sh twice, SIGKILL of everything, up.sh again, down.sh; nothing may be left (about 3 minutes)",
        run: updown::run,
    },
    Soak {
        name: "workloads",
        about: "Jobs and rollouts while leaders and agents are killed; everything counts once (about 2 minutes)",
        run: workloads::run,
    },
    Soak {
        name: "clock",
        about: "CronJobs and times to live under a moved clock, on a running cluster (builds for 2 minutes, runs 1)",
        run: clock::run,
    },
    Soak {
        name: "offline",
        about: "a node loses its power and comes up without a server: what may run, runs (about 2 minutes)",
        run: offline::run,
    },
    Soak {
        name: "power-off",
        about: "everything is off for longer than its certificates live, and heals (builds for 2 minutes, runs 1)",
        run: power_off::run,
    },
    Soak {
        name: "pods",
        about: "1,000 pods come and go, 200 more while agent, containerd and shims are killed (about 15 minutes)",
        run: pods::run,
    },
    Soak {
        name: "fuzz",
        about: "every decoder and whole requests under broken input; KYBERN_FUZZ_SECONDS for how long (builds, then 3 minutes)",
        run: fuzz::run,
    },
];

/// Runs a soak by name.
///
/// # Errors
/// When it fails, or there is none of this name: then the names there are.
pub(crate) fn run(name: &str) -> Result<()> {
    let Some(soak) = TABLE.iter().find(|s| s.name == name) else {
        let known: Vec<String> = TABLE.iter().map(|s| format!("  {}: {}", s.name, s.about)).collect();
        bail!("there is no soak {name:?}; there are\n{}", known.join("\n"));
    };
    println!("==> {}: {}", soak.name, soak.about);
    (soak.run)()
}
