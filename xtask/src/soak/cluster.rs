//! A dev cluster of a soak's own, removed with the value.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a soak waits for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

pub(super) struct Cluster {
    name: &'static str,
    program: PathBuf,
    kubeconfig: String,
    /// What the servers' clocks are moved by; empty: nothing.
    clock_offset: String,
    /// How `kybern dev create` is called.
    create: Vec<String>,
}

/// What a cluster is to be.
pub(super) struct Wanted {
    pub(super) name: &'static str,
    /// The program under test.
    pub(super) program: PathBuf,
    /// What all clocks are moved by, in seconds (`-5s`); empty: nothing. Only a program built for it listens.
    pub(super) clock_offset: String,
    pub(super) servers: u32,
    pub(super) nodes: u32,
    /// Further arguments of `kybern dev create`.
    pub(super) arguments: &'static [&'static str],
}

impl Wanted {
    /// A server and a node of the usual program.
    pub(super) fn new(name: &'static str) -> Result<Self> {
        let program = target()?.join("kybern");
        Ok(Self { name, program, clock_offset: String::new(), servers: 1, nodes: 1, arguments: &[] })
    }
}

/// Where builds are.
pub(super) fn target() -> Result<PathBuf> {
    let target = std::env::var("CARGO_TARGET_DIR").context("CARGO_TARGET_DIR is not set: run through deploy/env.sh")?;
    Ok(PathBuf::from(target).join("release"))
}

impl Cluster {
    /// Creates it, with the web image on every node.
    pub(super) fn create(name: &'static str, servers: u32, nodes: u32) -> Result<Self> {
        Self::create_with(Wanted { servers, nodes, ..Wanted::new(name)? })
    }

    /// Creates it with settings of its own.
    pub(super) fn create_with(wanted: Wanted) -> Result<Self> {
        let Wanted { name, program, clock_offset, servers, nodes, arguments } = wanted;
        let (servers, nodes) = (servers.to_string(), nodes.to_string());
        let create = ["dev", "create", "--servers", &servers, "--nodes", &nodes];
        let create = [&create[..], arguments].concat().into_iter().map(str::to_owned).collect();
        let mut cluster = Self { name, program, kubeconfig: String::new(), clock_offset, create };
        cluster.kybern(&["dev", "delete"])?;
        cluster.up()?;
        let image = Command::new("deploy/web-image.sh").output().context("deploy/web-image.sh")?;
        cluster.kybern(&["image", "import", String::from_utf8_lossy(&image.stdout).trim()])?;
        cluster.kubeconfig = cluster.kybern(&["dev", "kubeconfig"])?.trim().to_owned();
        Ok(cluster)
    }

    /// Runs the program on this cluster; what it said.
    pub(super) fn kybern(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(args).args(["--name", self.name]);
        if !self.clock_offset.is_empty() {
            command.env("KYBERN_CLOCK_OFFSET", &self.clock_offset);
        }
        said(&mut command, args)
    }

    /// Restarts a server with its clock moved by `clock_offset`.
    pub(super) fn move_clock(&mut self, server: &str, clock_offset: &str) -> Result<()> {
        clock_offset.clone_into(&mut self.clock_offset);
        self.kybern(&["dev", "stop", server])?;
        self.kybern(&["dev", "start", server]).map(|_| ())
    }

    /// Turns everything off, and on again with all clocks moved by `clock_offset`. Containers go on.
    pub(super) fn off_and_on(&mut self, clock_offset: &str) -> Result<()> {
        clock_offset.clone_into(&mut self.clock_offset);
        self.kybern(&["dev", "stop"])?;
        self.up()
    }

    fn up(&self) -> Result<()> {
        let create: Vec<&str> = self.create.iter().map(String::as_str).collect();
        self.kybern(&create).map(|_| ())
    }

    /// Runs kubectl on this cluster; what it said.
    pub(super) fn kubectl(&self, args: &[&str]) -> Result<String> {
        let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into());
        said(Command::new(program).env("KUBECONFIG", &self.kubeconfig).args(args), args)
    }

    /// The directory of a host.
    pub(super) fn host_dir(&self, host: &str) -> PathBuf {
        PathBuf::from("/var/lib/kybern/dev").join(self.name).join(host)
    }

    /// Tells a test where the cluster is.
    pub(super) fn tell(&self, test: &mut Command) {
        test.env("KUBECONFIG", &self.kubeconfig).env("KYBERN", &self.program).env("KYBERN_NAME", self.name);
    }

    /// Applies a manifest.
    pub(super) fn apply(&self, manifest: &str) -> Result<()> {
        let path = std::env::temp_dir().join(format!("kybern-soak-{}-{}.yaml", self.name, std::process::id()));
        std::fs::write(&path, manifest)?;
        let applied = self.patiently("apply", || self.kubectl(&["apply", "-f", &path.to_string_lossy()]));
        std::fs::remove_file(&path)?;
        applied.map(|_| ())
    }

    /// An object or list as JSON.
    pub(super) fn get(&self, what: &[&str]) -> Result<Value> {
        let mut args = vec!["get", "-o", "json"];
        args.extend_from_slice(what);
        Ok(serde_json::from_str(&self.kubectl(&args)?)?)
    }

    /// Tries until it succeeds: while servers are killed, single calls fail.
    pub(super) fn patiently<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match attempt() {
                Err(e) if Instant::now() > deadline => {
                    return Err(e.context(format!("{what}: not within {PATIENCE:?}")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(300)),
                done => return done,
            }
        }
    }

    /// The server that leads: its controllers hold this Lease.
    pub(super) fn leader(&self) -> Result<String> {
        let lease =
            self.patiently("a leader", || self.get(&["lease", "-n", "kube-system", "kube-controller-manager"]))?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        holder.split('_').next().filter(|h| !h.is_empty()).map(str::to_owned).context("the lease has no holder")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(e) = self.kybern(&["dev", "delete"]) {
            eprintln!("{e:#}");
        }
    }
}

fn said(command: &mut Command, args: &[&str]) -> Result<String> {
    let out = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !out.status.success() {
        bail!("{}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
