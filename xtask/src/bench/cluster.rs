//! The cluster under the bench: made by the program itself, removed with this value.

use super::row;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const NAME: &str = "bench";

/// A running dev cluster.
pub(crate) struct Cluster {
    program: PathBuf,
    /// Path of its kubeconfig.
    pub(crate) kubeconfig: PathBuf,
    /// Addresses of its servers.
    pub(crate) servers: Vec<String>,
}

impl Cluster {
    /// Creates it and reports how long its parts took.
    pub(crate) fn create(servers: usize, nodes: usize) -> Result<Self> {
        let target =
            std::env::var("CARGO_TARGET_DIR").context("CARGO_TARGET_DIR is not set: run through deploy/env.sh")?;
        let program = PathBuf::from(target).join("release/kybern");
        let kybern = |args: &[&str]| -> Result<String> {
            let out = Command::new(&program).args(args).args(["--name", NAME]).output().context("kybern")?;
            if !out.status.success() {
                bail!("kybern {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
            }
            Ok(String::from_utf8_lossy(&out.stdout).into_owned())
        };
        kybern(&["dev", "delete"])?;
        let said = kybern(&["dev", "create", "--servers", &servers.to_string(), "--nodes", &nodes.to_string()])?;
        for (text, target) in [("all servers ready", "<= 1.5 s"), ("all nodes ready", "")] {
            let line = said.lines().find(|l| l.contains(text)).unwrap_or_default();
            row(&format!("{text} from empty disk"), line.rsplit("after ").next().unwrap_or_default(), target);
        }
        if nodes > 0 {
            let image = Command::new("deploy/web-image.sh").output()?;
            kybern(&["image", "import", String::from_utf8_lossy(&image.stdout).trim()])?;
        }
        let kubeconfig = PathBuf::from(kybern(&["dev", "kubeconfig"])?.trim());
        let servers = (11..11 + servers).map(|i| format!("10.89.{}.{i}", subnet(&said))).collect();
        Ok(Self { program, kubeconfig, servers })
    }

    /// Runs the program on this cluster; what it said.
    pub(crate) fn kybern(&self, args: &[&str]) -> Result<String> {
        let out = Command::new(&self.program).args(args).output().context("kybern")?;
        if !out.status.success() {
            bail!("kybern {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Does something with one of its hosts.
    pub(crate) fn host(&self, verb: &str, host: &str) -> Result<()> {
        self.kybern(&["dev", verb, host, "--name", NAME]).map(drop)
    }

    /// The disk of a host, and its sockets and mounts.
    pub(crate) fn directories(host: &str) -> (PathBuf, PathBuf) {
        let of = |root: &str| PathBuf::from(root).join(NAME).join(host);
        (of("/var/lib/kybern/dev"), of("/run/kybern"))
    }

    /// Process ids by host name.
    pub(crate) fn processes(&self) -> Result<Vec<(String, u32)>> {
        let text = self.kybern(&["dev", "list"])?;
        let mine = text.lines().skip_while(|l| !l.starts_with(NAME)).skip(1).take_while(|l| l.starts_with("  "));
        Ok(mine
            .filter_map(|l| {
                let mut words = l.split_whitespace();
                let host = words.next()?.to_owned();
                Some((host, words.last()?.parse().ok()?))
            })
            .collect())
    }

    /// Simulated nodes beside this cluster's own, as soon as they are registered.
    pub(crate) fn hollow(&self, nodes: usize) -> Result<Hollow> {
        let mut child = Command::new(&self.program)
            .args(["bench", "hollow", "--nodes", &nodes.to_string()])
            .env("KUBECONFIG", &self.kubeconfig)
            .stdout(Stdio::piped())
            .spawn()
            .context("kybern bench hollow")?;
        let out = child.stdout.take().context("the output of kybern bench hollow")?;
        let hollow = Hollow(child);
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        if line.is_empty() {
            bail!("kybern bench hollow has ended");
        }
        print!("{line}");
        Ok(hollow)
    }
}

/// The process of the simulated nodes; ends with this value.
pub(crate) struct Hollow(Child);

impl Hollow {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Hollow {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn subnet(said: &str) -> String {
    said.split("10.89.").nth(1).and_then(|t| t.split('.').next()).unwrap_or("0").to_owned()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(&self.program).args(["dev", "delete", "--name", NAME]).output();
    }
}
