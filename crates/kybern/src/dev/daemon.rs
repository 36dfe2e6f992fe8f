//! The process behind a dev cluster: keeps the hosts' programs running as an init system would, and
//! holds the gate. Spoken to over a Unix socket, one JSON line each way.

use super::cluster::{Cluster, Host};
use super::{gate, host, node_ports};
use crate::clock;
use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A program that ends by itself is started again after this long; doubled while it keeps ending.
const RESTART_DELAY: Duration = Duration::from_millis(200);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);
/// A run this long counts as healthy and resets the delay.
const HEALTHY: Duration = Duration::from_secs(10);
/// How long a program may take to end after SIGTERM.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What to do with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Run its program (again).
    Start,
    /// End its program and keep it ended.
    Stop,
    /// SIGKILL its program; it is started again as after a crash.
    Kill,
    /// Only tell how it is.
    Status,
}

/// A request line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub op: Op,
    /// Which host; None: all of them (status), or the daemon itself (stop).
    pub host: Option<String>,
    /// What the clock of a program that is started is moved by, where its build can do that.
    #[serde(default)]
    pub clock_offset: Option<String>,
}

/// An answer line: each host's process id, or 0 while it does not run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Host name to process id.
    pub hosts: BTreeMap<String, u32>,
    /// What went wrong; empty: nothing.
    #[serde(default)]
    pub error: String,
}

/// What a host is to do, how its clock is moved then, and where the answer goes.
type Command = (Op, Option<String>, oneshot::Sender<u32>);

/// Runs until it is told to stop or gets SIGTERM.
///
/// # Errors
/// When the socket or the gate's port can't be bound.
pub async fn run(cluster: Cluster) -> Result<()> {
    let cancel = CancellationToken::new();
    std::fs::create_dir_all(cluster.run_dir())?;
    let _ = std::fs::remove_file(cluster.socket());
    let listener = UnixListener::bind(cluster.socket()).context("cannot bind the daemon's socket")?;
    let cluster = Arc::new(cluster);
    let gate = gate::start(&cluster, cancel.clone()).await?;
    let mut hosts = BTreeMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    for h in &cluster.hosts {
        let (tx, rx) = mpsc::channel::<Command>(4);
        hosts.insert(h.name.clone(), tx);
        tasks.spawn(keep_running(cluster.clone(), h.clone(), rx, cancel.clone()));
    }
    let hosts = Arc::new(hosts);
    tokio::spawn({
        let (cluster, cancel) = (cluster.clone(), cancel.clone());
        async move {
            if let Err(e) = node_ports::follow(cluster, cancel).await {
                tracing::warn!("node ports are not offered on 127.0.0.1: {e:#}");
            }
        }
    });
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                tokio::spawn(serve(stream, hosts.clone(), cancel.clone()));
            }
            _ = terminate.recv() => cancel.cancel(),
            () = cancel.cancelled() => break,
        }
    }
    while tasks.join_next().await.is_some() {}
    gate.await.ok();
    let _ = std::fs::remove_file(cluster.socket());
    Ok(())
}

async fn serve(stream: UnixStream, hosts: Arc<BTreeMap<String, mpsc::Sender<Command>>>, cancel: CancellationToken) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    if BufReader::new(read).read_line(&mut line).await.is_err() {
        return;
    }
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => answer(request, &hosts, &cancel).await,
        Err(e) => Answer { error: e.to_string(), ..Answer::default() },
    };
    if let Ok(mut text) = serde_json::to_vec(&answer) {
        text.push(b'\n');
        let _ = write.write_all(&text).await;
    }
}

async fn answer(
    request: Request,
    hosts: &BTreeMap<String, mpsc::Sender<Command>>,
    cancel: &CancellationToken,
) -> Answer {
    let mut answer = Answer::default();
    if request.op == Op::Stop && request.host.is_none() {
        cancel.cancel();
        return answer;
    }
    for (name, tx) in hosts.iter().filter(|(n, _)| request.host.as_ref().is_none_or(|h| h == *n)) {
        let (done, pid) = oneshot::channel();
        if tx.send((request.op, request.clock_offset.clone(), done)).await.is_ok() {
            answer.hosts.insert(name.clone(), pid.await.unwrap_or(0));
        }
    }
    if answer.hosts.is_empty() {
        answer.error = format!("no host {:?}", request.host.unwrap_or_default());
    }
    answer
}

/// One host's program: started, watched, started again, until the daemon ends.
async fn keep_running(
    cluster: Arc<Cluster>,
    h: Host,
    mut commands: mpsc::Receiver<Command>,
    cancel: CancellationToken,
) {
    let (mut wanted, mut clock_offset) = (true, None);
    let mut delay = RESTART_DELAY;
    loop {
        if !wanted {
            tokio::select! {
                () = cancel.cancelled() => return,
                command = commands.recv() => match command {
                    Some((op, clock, done)) => {
                        wanted = op == Op::Start;
                        clock_offset = clock.or(clock_offset);
                        let _ = done.send(0);
                    }
                    None => return,
                },
            }
            continue;
        }
        let started = tokio::time::Instant::now();
        match host::spawn(&cluster, &h, clock_offset.as_deref()) {
            Ok(mut child) => {
                if !attend(&mut child, &mut commands, &cancel, &mut wanted).await {
                    return;
                }
            }
            Err(e) => tracing::error!(host = %h.name, "cannot start: {e:#}"),
        }
        delay = if started.elapsed() > HEALTHY { RESTART_DELAY } else { (delay * 2).min(RESTART_DELAY_MAX) };
        if wanted {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }
}

/// Waits for a running program to end while serving commands. False: the daemon is ending.
async fn attend(
    child: &mut tokio::process::Child,
    commands: &mut mpsc::Receiver<Command>,
    cancel: &CancellationToken,
    wanted: &mut bool,
) -> bool {
    loop {
        let pid = child.id().unwrap_or(0);
        tokio::select! {
            _ = child.wait() => return true,
            () = cancel.cancelled() => { end(child).await; return false; }
            command = commands.recv() => {
                let Some((op, _, done)) = command else { return false };
                match op {
                    Op::Start | Op::Status => { let _ = done.send(pid); }
                    Op::Kill => { let _ = child.kill().await; let _ = done.send(pid); return true; }
                    Op::Stop => { *wanted = false; end(child).await; let _ = done.send(pid); return true; }
                }
            }
        }
    }
}

/// SIGTERM, and SIGKILL when that is not enough.
async fn end(child: &mut tokio::process::Child) {
    if let Some(pid) = child.id().and_then(|p| i32::try_from(p).ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
    if tokio::time::timeout(STOP_GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Sends one request to a cluster's daemon.
///
/// # Errors
/// When no daemon answers, or with its own error.
pub async fn ask(cluster: &Cluster, op: Op, host: Option<&str>) -> Result<Answer> {
    let stream = UnixStream::connect(cluster.socket())
        .await
        .with_context(|| format!("cluster {} is not running; start it with `kybern dev create`", cluster.name))?;
    let (read, mut write) = stream.into_split();
    let clock_offset = std::env::var(clock::VARIABLE).ok();
    let mut text = serde_json::to_vec(&Request { op, host: host.map(str::to_owned), clock_offset })?;
    text.push(b'\n');
    write.write_all(&text).await?;
    let mut line = String::new();
    BufReader::new(read).read_line(&mut line).await?;
    let answer: Answer = serde_json::from_str(&line).context("the daemon ended while answering")?;
    if answer.error.is_empty() { Ok(answer) } else { Err(anyhow!(answer.error)) }
}
