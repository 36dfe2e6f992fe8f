//! An own containerd: configured, started, watched, restarted and adopted by the agent.
//!
//! Containers survive its death and the agent's: each sandbox has a shim process of its own, and the
//! next containerd with the same state directory finds them again.

use super::cri::{self, Cri};
use super::events::{self, Event, TaskChanged};
use super::{Runtime, pause};
use crate::config::Paths;
use crate::error::{Error, Result};
use crate::images::import::Importer;
use kybern_wire::containerd::services::version::v1::version_client::VersionClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// containerd opens its database and starts its plugins within this time, also on a busy machine.
const START: Duration = Duration::from_secs(30);
/// Time it gets to end by itself.
const STOP: Duration = Duration::from_secs(10);
/// Directories looked into when PATH does not lead to a program.
const PROGRAM_DIRS: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin"];

/// Where events go.
#[derive(Debug, Clone)]
pub struct Tell {
    /// Processes that ended.
    pub changes: mpsc::Sender<TaskChanged>,
    /// Woken when there are other images than before.
    pub images: Arc<Notify>,
}

/// A containerd process of this node.
#[derive(Debug)]
pub struct Containerd {
    paths: Paths,
    program: PathBuf,
    channel: Channel,
    /// None when it was adopted: then it is no child of this process.
    child: Option<Child>,
}

impl Containerd {
    /// Starts containerd, or adopts the one that runs already with this node's configuration.
    ///
    /// # Errors
    /// When a program is missing, the process is not root, or containerd does not come up; then with
    /// the last line of its log.
    pub async fn start(paths: &Paths) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        find_program("runc").ok_or(Error::MissingProgram { program: "runc", package: "runc" })?;
        let program =
            find_program("containerd").ok_or(Error::MissingProgram { program: "containerd", package: "containerd" })?;
        prepare(paths)?;
        let channel = cri::channel(&paths.containerd_socket())?;
        let mut this = Self { paths: paths.clone(), program, channel, child: None };
        if this.running_pid().is_some() {
            tracing::info!("adopting the running containerd");
        } else {
            this.spawn()?;
        }
        this.wait_until_ready().await?;
        Ok(this)
    }

    /// A channel to it; survives restarts.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
    /// Its CRI.
    pub fn cri(&self) -> Cri {
        Cri::new(self.channel())
    }

    /// Imports the pause image unless it is there.
    ///
    /// # Errors
    /// When the import fails.
    pub async fn ensure_pause_image(&self) -> Result<()> {
        let cri = self.cri();
        if cri.image(pause::IMAGE).await?.is_none() {
            Importer::new(self.channel()).import(&pause::image(), &cri, "kybern-pause").await?;
        }
        Ok(())
    }

    /// Forwards its events and starts it again whenever it dies, until cancelled. The end of the event
    /// stream is what tells of a death, for children and adopted processes alike. After each (re)start
    /// an event without id says: look at everything again.
    pub async fn supervise(&mut self, tell: Tell, cancel: CancellationToken) {
        let mut pause = Duration::from_millis(100);
        loop {
            let began = tokio::time::Instant::now();
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.forward(&tell) => {}
            }
            if began.elapsed() > START {
                pause = Duration::from_millis(100);
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(START);
            if let Err(e) = self.revive().await {
                tracing::error!(error = %e, "containerd does not come back");
            }
        }
    }

    /// Ends it; containers go on in their shims.
    pub async fn stop(&mut self) {
        let Some(pid) = self.running_pid() else { return };
        let _ = kill(pid, Signal::SIGTERM);
        if let Some(child) = &mut self.child {
            if tokio::time::timeout(STOP, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        } else {
            wait_for_exit(pid).await;
        }
        let _ = std::fs::remove_file(self.paths.containerd_pid());
    }

    /// Forwards events until the stream ends. containerd answers a subscription only with its first
    /// event, so a call made after it tells that it is there.
    async fn forward(&self, tell: &Tell) {
        let mut client = VersionClient::new(self.channel());
        let answered = async {
            client.version(()).await.ok()?;
            tell.changes.send(TaskChanged { id: String::new() }).await.ok()
        };
        let (subscription, _) = tokio::join!(events::subscribe(self.channel()), answered);
        let mut subscription = match subscription {
            Ok(s) => s,
            Err(e) => return tracing::debug!(error = %e, "containerd gives no events"),
        };
        while let Some(event) = subscription.next().await {
            match event {
                Event::Images => tell.images.notify_one(),
                Event::Task(change) => {
                    if tell.changes.send(change).await.is_err() {
                        return;
                    }
                }
            }
        }
        tracing::warn!("containerd's event stream has ended");
    }

    /// Starts it unless it still runs.
    async fn revive(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child {
            // Reaps it, when it is dead.
            let _ = child.try_wait();
        }
        if self.running_pid().is_none() {
            self.spawn()?;
        }
        self.wait_until_ready().await
    }

    fn spawn(&mut self) -> Result<()> {
        // A stale socket would make the first dial fail instead of wait.
        let _ = std::fs::remove_file(self.paths.containerd_socket());
        let log_path = self.paths.containerd_log();
        let log = std::fs::File::create(&log_path).map_err(Error::file("create", &log_path))?;
        let errors = log.try_clone().map_err(Error::file("open", &log_path))?;
        let child = Command::new(&self.program)
            .arg("--config")
            .arg(self.paths.containerd_config())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::file("start", &self.program))?;
        let pid_path = self.paths.containerd_pid();
        let pid = child.id().unwrap_or_default().to_string();
        std::fs::write(&pid_path, pid).map_err(Error::file("write", &pid_path))?;
        self.child = Some(child);
        Ok(())
    }

    /// The process of the pid file, if it is (still) a containerd with this node's configuration.
    fn running_pid(&self) -> Option<Pid> {
        let pid: i32 = std::fs::read_to_string(self.paths.containerd_pid()).ok()?.trim().parse().ok()?;
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let config = self.paths.containerd_config();
        let ours = command.split(|b| *b == 0).any(|a| a == config.as_os_str().as_encoded_bytes());
        ours.then(|| Pid::from_raw(pid))
    }

    /// Asks for its version until it answers: its socket appears before it serves, and it sends no
    /// notice of its own.
    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + START;
        let mut pause = Duration::from_millis(5);
        loop {
            let mut client = VersionClient::new(self.channel());
            if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(5), client.version(())).await
                && self.cri().version().await.is_ok()
            {
                return Ok(());
            }
            let dead = match &mut self.child {
                Some(child) => matches!(child.try_wait(), Ok(Some(_)) | Err(_)),
                None => self.running_pid().is_none(),
            };
            if dead || tokio::time::Instant::now() > deadline {
                return Err(Error::RuntimeStart(last_line(&self.paths.containerd_log())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}

/// Waits for the end of a process that is no child.
async fn wait_for_exit(pid: Pid) {
    let deadline = tokio::time::Instant::now() + STOP;
    while kill(pid, None).is_ok() {
        if tokio::time::Instant::now() > deadline {
            let _ = kill(pid, Signal::SIGKILL);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The last line of containerd's log: why it ended.
fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no output");
    format!("{line} (log: {})", log.display())
}

/// Looks a program up in PATH and where distributions put daemons.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(PROGRAM_DIRS.iter().map(PathBuf::from));
    dirs.map(|d| d.join(name)).find(|p| p.is_file())
}

fn prepare(paths: &Paths) -> Result<()> {
    for dir in [paths.containerd_root(), paths.containerd_state(), paths.cni_bin(), paths.cni_conf()] {
        std::fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
    }
    let path = paths.containerd_config();
    std::fs::write(&path, config(paths, &Limits::probe())).map_err(Error::file("write", &path))
}

/// What this process may do, as far as containerd must know.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// May oom_score_adj be lowered (CAP_SYS_RESOURCE)?
    lower_oom_score: bool,
    /// May cgroups be made?
    cgroups: bool,
}

impl Limits {
    fn probe() -> Self {
        const CAP_SYS_RESOURCE: u32 = 24;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status
            .lines()
            .find_map(|l| l.strip_prefix("CapEff:"))
            .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
            .unwrap_or(0);
        Self { lower_oom_score: effective >> CAP_SYS_RESOURCE & 1 == 1, cgroups: crate::cgroup::writable() }
    }
}

/// containerd's configuration. Everything it writes lies below the node's directories, so several
/// nodes fit on one machine.
fn config(paths: &Paths, limits: &Limits) -> String {
    let quote = |p: PathBuf| format!("{:?}", p.display().to_string());
    format!(
        r#"version = 2
root = {root}
state = {state}
disabled_plugins = [
  "io.containerd.internal.v1.restart",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = {socket}

[plugins."io.containerd.internal.v1.opt"]
  path = {opt}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = {restrict}
  disable_cgroup = {no_cgroup}
  disable_apparmor = {no_apparmor}

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni_bin}
    conf_dir = {cni_conf}

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {registries}

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    discard_unpacked_layers = false
"#,
        root = quote(paths.containerd_root()),
        state = quote(paths.containerd_state()),
        socket = quote(paths.containerd_socket()),
        opt = quote(paths.containerd_root().join("opt")),
        pause = pause::IMAGE,
        restrict = !limits.lower_oom_score,
        no_cgroup = !limits.cgroups,
        no_apparmor = !Path::new("/sys/kernel/security/apparmor").exists(),
        cni_bin = quote(paths.cni_bin()),
        cni_conf = quote(paths.cni_conf()),
        registries = quote(paths.registry_hosts()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_keeps_everything_in_the_nodes_directories() {
        let paths = Paths::new(Path::new("/data/n1"), Path::new("/run/n1"));
        let text = config(&paths, &Limits { lower_oom_score: false, cgroups: true });
        for line in text.lines().filter(|l| l.contains(" = \"/")) {
            assert!(line.contains("\"/data/n1/") || line.contains("\"/run/n1/"), "{line}");
        }
        assert!(text.contains("restrict_oom_score_adj = true") && text.contains("disable_cgroup = false"));
        assert!(text.contains("netns_mounts_under_state_dir = true"));
    }

    #[test]
    fn the_log_says_why_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "starting\naddress already in use\n\n").unwrap();
        assert!(last_line(&log).starts_with("address already in use (log: "));
    }
}
