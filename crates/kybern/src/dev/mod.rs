//! `kybern dev`: clusters on one machine whose hosts are network namespaces.

pub mod cluster;
pub mod daemon;
mod gate;
mod host;
mod net;
mod node_ports;
mod ready;
mod seed;
mod sweep;

use crate::cli::{DevArguments, DevCommand, DevHost};
use anyhow::{Context, Result, bail};
use cluster::{Cluster, Role};
use daemon::Op;
use kybern_node_agent::config::Paths;
use kybern_node_agent::teardown::teardown;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs a `kybern dev` command.
///
/// # Errors
/// One line with the cause and what to do.
pub fn run(command: DevCommand) -> Result<()> {
    match command {
        DevCommand::Create { servers, nodes, cluster, no_wait, extra } => {
            create(&cluster.name, (servers, nodes), extra, !no_wait)
        }
        DevCommand::Delete(n) => delete(&n.name),
        DevCommand::List => list(),
        DevCommand::Kubeconfig(n) => {
            println!("{}", Cluster::existing(&n.name)?.kubeconfig().display());
            Ok(())
        }
        DevCommand::Stop { host: Some(host), cluster } => tell(Op::Stop, &DevHost { host, cluster }),
        DevCommand::Stop { host: None, cluster } => stop(&cluster.name),
        DevCommand::Start(h) => {
            // A host that was turned off has no network.
            net::up(&Cluster::existing(&h.cluster.name)?)?;
            tell(Op::Start, &h)
        }
        DevCommand::Poweroff(h) => {
            tell(Op::Stop, &h)?;
            with_host(&h, poweroff)
        }
        DevCommand::Kill(h) => tell(Op::Kill, &h),
        DevCommand::Cut(h) => with_host(&h, net::cut),
        DevCommand::Heal(h) => with_host(&h, net::heal),
        DevCommand::Daemon(n) => {
            let cluster = Cluster::existing(&n.name)?;
            runtime()?.block_on(daemon::run(cluster))
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn with_host(h: &DevHost, act: fn(&Cluster, &cluster::Host) -> Result<()>) -> Result<()> {
    let c = Cluster::existing(&h.cluster.name)?;
    act(&c, c.host(&h.host)?)
}

/// Undoes all that a stopped host has in memory.
fn poweroff(cluster: &Cluster, host: &cluster::Host) -> Result<()> {
    let paths = Paths::new(&cluster.host_dir(host), &cluster.host_run_dir(host));
    runtime()?.block_on(teardown(&paths, &format!("/{}", cluster.cgroup(host))))?;
    match std::fs::remove_dir_all(cluster.host_run_dir(host)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    net::remove(cluster, host)
}

fn tell(op: Op, h: &DevHost) -> Result<()> {
    let c = Cluster::existing(&h.cluster.name)?;
    let host = c.host(&h.host)?.name.clone();
    runtime()?.block_on(daemon::ask(&c, op, Some(&host))).map(|_| ())
}

/// Ends the daemon, which ends the programs of all hosts first.
fn stop(name: &str) -> Result<()> {
    let cluster = Cluster::existing(name)?;
    runtime()?.block_on(daemon::ask(&cluster, Op::Stop, None))?;
    while cluster.socket().exists() {
        // As when it starts: another process can't be waited for in a better way.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn create(name: &str, (servers, nodes): (usize, usize), extra: DevArguments, wait: bool) -> Result<()> {
    preflight(nodes)?;
    let begun = tokio::time::Instant::now();
    let cluster = match Cluster::load(name)? {
        Some(c) => {
            if (c.servers().count(), c.nodes().count()) != (servers, nodes) {
                bail!("cluster {name} has another size; `kybern dev delete --name {name}` first");
            }
            if extra != DevArguments::default() && c.extra != extra {
                bail!("cluster {name} has other arguments; `kybern dev delete --name {name}` first");
            }
            seed::renew(&c)?;
            c
        }
        None => {
            let mut c = Cluster::plan(name, servers, nodes, &Cluster::all())?;
            c.extra = extra;
            seed::prepare(&mut c)?;
            c.save()?;
            c
        }
    };
    let runtime = runtime()?;
    if runtime.block_on(daemon::ask(&cluster, Op::Status, None)).is_err() {
        // Whatever an earlier daemon left running would fight the new one over ports and sockets.
        sweep::orphans(&cluster)?;
        net::up(&cluster)?;
        start_daemon(&cluster)?;
    } else {
        runtime.block_on(daemon::ask(&cluster, Op::Start, None))?;
    }
    println!("cluster {name}: {servers} servers and {nodes} nodes on 10.89.{}.0/24", cluster.subnet);
    if wait {
        runtime.block_on(ready::wait(&cluster, begun))?;
    }
    println!("kubeconfig: {}", cluster.kubeconfig().display());
    Ok(())
}

/// What must be there before anything is made.
fn preflight(nodes: usize) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("kybern dev needs root for network namespaces and containers; run it with sudo");
    }
    let needed: &[(&str, &str)] = &[("nft", "nftables"), ("containerd", "containerd"), ("runc", "runc")];
    for (program, package) in needed.iter().filter(|_| nodes > 0) {
        if !on_path(program) {
            bail!("{program} is missing; install it with `apt-get install {package}`");
        }
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(program).is_file()))
}

/// Starts the daemon as a process of its own that outlives this one, and waits for its socket.
fn start_daemon(cluster: &Cluster) -> Result<()> {
    use std::os::unix::process::CommandExt;
    std::fs::create_dir_all(cluster.run_dir())?;
    let log = std::fs::File::options().create(true).append(true).open(cluster.dir().join("daemon.log"))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["dev", "daemon", "--name", &cluster.name])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("cannot start the cluster's daemon")?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !cluster.socket().exists() {
        if let Some(status) = child.try_wait()? {
            let text = std::fs::read_to_string(cluster.dir().join("daemon.log")).unwrap_or_default();
            bail!("the cluster's daemon ended ({status}): {}", text.lines().last().unwrap_or_default());
        }
        if tokio::time::Instant::now() > deadline {
            bail!("the cluster's daemon does not answer; see {}", cluster.dir().join("daemon.log").display());
        }
        // A starting process can't be waited for in a better way; 5 ms, at most 10 s.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn delete(name: &str) -> Result<()> {
    let Some(cluster) = Cluster::load(name)? else {
        println!("there is no cluster {name}");
        return Ok(());
    };
    let _ = runtime()?.block_on(daemon::ask(&cluster, Op::Stop, None));
    sweep::processes(&cluster)?;
    sweep::mounts(&cluster)?;
    sweep::cgroups(&cluster);
    net::down(&cluster)?;
    sweep::files(&cluster)?;
    println!("cluster {name} is deleted");
    Ok(())
}

fn list() -> Result<()> {
    let runtime = runtime()?;
    for c in Cluster::all() {
        let state = runtime.block_on(daemon::ask(&c, Op::Status, None)).unwrap_or_default();
        println!("{}  api https://127.0.0.1:{}  kubeconfig {}", c.name, c.gate_port, c.kubeconfig().display());
        for h in &c.hosts {
            let pid = state.hosts.get(&h.name).copied().unwrap_or(0);
            let role = if h.role == Role::Server { "server" } else { "node" };
            let running = if pid == 0 { "stopped".into() } else { format!("pid {pid}") };
            println!("  {:<10} {:<6} {:<12} {running}", h.name, role, h.address);
        }
    }
    Ok(())
}
