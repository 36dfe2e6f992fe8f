//! The worker's hands: making sandboxes and containers, watching and ending them.

use super::handlers::Target;
use super::observe::{Container, Observed};
use super::probe::Watched;
use super::status::Waiting;
use super::worker::{Held, Worker};
use super::{Shared, config, env, fields, hooks, resources};
use crate::error::{Error, Result};
use crate::images::pull::{Policy, Readiness};
use crate::volumes::{self, Mounted};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{self as core, Pod};
use std::sync::Arc;
use std::time::Duration;

/// When a container that could not be made is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// What is looked at again at every change, because it may have been mended: a missing object may have
/// come, and the image puller keeps its own back-off.
const CHEAP: [&str; 4] = ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError", "ContainerCreating"];
/// Longest termination message the API shows.
const MAX_MESSAGE: usize = 4096;
/// And longest that is taken from a log.
const MAX_LOG_MESSAGE: usize = 2048;

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a core::Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}

fn around(shared: &Shared, observed: &Observed) -> fields::Surroundings {
    let host_ip = shared.config.node_ip.to_string();
    let ips = observed.sandbox.as_ref().map(|s| s.ips.clone()).unwrap_or_default();
    fields::Surroundings {
        pod_ips: if ips.is_empty() { vec![host_ip.clone()] } else { ips },
        host_ip,
        cpu_milli: shared.capacity.cpu_milli,
        memory: shared.capacity.memory,
    }
}

/// Makes a sandbox; false when it must wait.
pub(super) async fn sandbox(worker: &mut Worker, pod: &Pod, attempt: u32) -> Result<bool> {
    let shared = worker.shared.clone();
    if !config::host_network(pod) && !*shared.network_ready.borrow() {
        // The manager pokes every pod when the network comes up.
        return Ok(false);
    }
    let cgroup = shared.cgroups.pod(resources::qos(pod), &worker.subject.uid);
    shared.cgroups.ensure(&cgroup, &resources::pod_limits(pod))?;
    let wanted = config::sandbox(&shared.config, pod, attempt, &cgroup);
    let logs = std::path::PathBuf::from(&wanted.log_directory);
    std::fs::create_dir_all(&logs).map_err(Error::file("create", &logs))?;
    match shared.runtime.run_sandbox(wanted).await {
        Ok(_) => Ok(true),
        Err(e) => {
            let message = format!("Failed to create pod sandbox: {e}");
            shared.events.warn(&worker.subject, "FailedCreatePodSandBox", message);
            Err(e)
        }
    }
}

/// Sets the pod's volumes up, with its hosts file.
pub(super) async fn set_up_volumes(worker: &mut Worker, pod: &Pod, observed: &Observed) -> Result<Mounted> {
    let shared = worker.shared.clone();
    let around = around(&shared, observed);
    let now = shared.clock.now();
    let mounted = volumes::set_up(&shared.paths, pod, &around, &shared.references, &shared.tokens, now).await?;
    let dir = shared.paths.pod(&worker.subject.uid);
    std::fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
    let hosts = dir.join("etc-hosts");
    let text = config::hosts(&shared.config, pod, &around.pod_ips);
    if std::fs::read_to_string(&hosts).ok().as_deref() != Some(text.as_str()) {
        std::fs::write(&hosts, text).map_err(Error::file("write", &hosts))?;
    }
    worker.refresh = mounted.refresh;
    Ok(mounted)
}

/// Makes and starts a container; false when it must wait, and then says why.
pub(super) async fn container(
    worker: &mut Worker,
    pod: &Pod,
    observed: &Observed,
    name: &str,
    attempt: u32,
    step: u32,
) -> Result<bool> {
    let now = worker.shared.clock.now();
    if worker
        .held
        .get(name)
        .is_some_and(|h| h.until.is_some_and(|u| now < u) && !CHEAP.contains(&h.waiting.reason.as_str()))
    {
        return Ok(false);
    }
    let Some(c) = find(pod, name) else { return Ok(false) };
    match prepare(worker, pod, observed, c, (attempt, step)).await {
        Ok(id) => {
            worker.held.remove(name);
            watch(worker, pod, observed, name, &id, true);
            Ok(true)
        }
        Err(Refusal::Hold(held)) => {
            let changed = worker.held.get(name).is_none_or(|h| h.waiting != held.waiting);
            if changed && !held.waiting.message.is_empty() {
                let event = match held.waiting.reason.as_str() {
                    "ImagePullBackOff" => "BackOff",
                    "FailedMount" => "FailedMount",
                    _ => "Failed",
                };
                worker.shared.events.warn(&worker.subject, event, held.waiting.message.clone());
            }
            let mut held = held;
            if held.waiting.reason == "FailedMount" {
                held.waiting = Waiting { reason: "ContainerCreating".into(), message: String::new() };
            }
            worker.held.insert(name.to_owned(), held);
            Ok(false)
        }
        Err(Refusal::Error(e)) => Err(e),
    }
}

/// Why a container is not started.
enum Refusal {
    /// It waits, with a reason for the status.
    Hold(Held),
    /// The runtime does not work.
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

async fn prepare(
    worker: &mut Worker,
    pod: &Pod,
    observed: &Observed,
    c: &core::Container,
    (attempt, step): (u32, u32),
) -> std::result::Result<String, Refusal> {
    let shared = worker.shared.clone();
    let retry = shared.clock.now() + RETRY;
    let hold = |reason: &str, message: String| {
        Refusal::Hold(Held { waiting: Waiting { reason: reason.into(), message }, until: Some(retry) })
    };
    let reference = c.image.as_deref().unwrap_or_default();
    let policy = Policy::of(c.image_pull_policy.as_deref(), reference);
    let pulled = match shared.puller.ensure(&worker.subject.uid, reference, policy, &worker.poke).await {
        Readiness::Ready { pulled } => pulled,
        Readiness::Pulling => {
            let event = format!("Pulling image {reference:?}");
            shared.events.normal(&worker.subject, "Pulling", event);
            let waiting = Waiting { reason: "ContainerCreating".into(), message: String::new() };
            return Err(Refusal::Hold(Held { waiting, until: None }));
        }
        Readiness::Waiting { reason, message, retry_at } => {
            let waiting = Waiting { reason: reason.into(), message };
            return Err(Refusal::Hold(Held { waiting, until: retry_at }));
        }
    };
    let full = crate::images::reference::normalise(reference).unwrap_or_default();
    let image = shared.runtime.image(&full).await?.unwrap_or_default();
    let mounted = set_up_volumes(worker, pod, observed).await.map_err(|e| hold("FailedMount", e.to_string()))?;
    let around = around(&shared, observed);
    let services = shared.services_for(pod);
    let sources = env::Sources { pod, around: &around, lookup: &shared.references, services: &services };
    let making = env::environment(&sources, c).and_then(|vars| {
        config::container(&config::Making {
            pod,
            container: c,
            attempt,
            step,
            paths: &shared.paths,
            volumes: &mounted,
            vars: &vars,
            image: &image,
            memory: shared.capacity.memory,
        })
    });
    let wanted = making.map_err(|e| hold("CreateContainerConfigError", e.to_string()))?;
    let (namespace, pod_name, uid) = config::identity(pod);
    let log_dir = shared.paths.pod_logs(namespace, pod_name, uid).join(&c.name);
    std::fs::create_dir_all(&log_dir).map_err(Error::file("create", &log_dir))?;
    let Some(sandbox) = &observed.sandbox else { return Err(hold("ContainerCreating", String::new())) };
    let came = if pulled { "has been pulled" } else { "is present on this node" };
    shared.events.normal(&worker.subject, "Pulled", format!("Image {reference:?} {came}"));
    let cgroup = shared.cgroups.pod(resources::qos(pod), uid);
    let sandbox_config = config::sandbox(&shared.config, pod, sandbox.attempt, &cgroup);
    let id = shared
        .runtime
        .create_container(&sandbox.id, wanted, sandbox_config)
        .await
        .map_err(|e| hold("CreateContainerError", e.to_string()))?;
    shared.events.normal(&worker.subject, "Created", format!("Container created: {}", c.name));
    shared.know(&id, &worker.poke);
    if let Err(e) = shared.runtime.start_container(&id).await {
        return Err(hold("RunContainerError", e.to_string()));
    }
    shared.events.normal(&worker.subject, "Started", format!("Container started: {}", c.name));
    Ok(id)
}

/// Starts the task that keeps a running container's marks.
pub(super) fn watch(worker: &mut Worker, pod: &Pod, observed: &Observed, name: &str, id: &str, fresh: bool) {
    let Some(container) = find(pod, name) else { return };
    let watched = Watched {
        runtime: worker.shared.runtime.clone(),
        target: target(&worker.shared, observed, container, id),
        marks: worker.marks.clone(),
        poke: worker.poke.clone(),
        events: worker.shared.events.clone(),
        subject: worker.subject.clone(),
        fresh,
    };
    worker.tasks.insert(id.to_owned(), tokio::spawn(watched.run()));
}

fn target(shared: &Shared, observed: &Observed, container: &core::Container, id: &str) -> Target {
    let ip = around(shared, observed).pod_ips.into_iter().next().unwrap_or_default();
    Target { id: id.to_owned(), ip, container: container.clone() }
}

/// Ends a container in a task of its own: preStop, stop signal, and a kill when its time is over.
pub(super) fn stop(worker: &mut Worker, pod: &Pod, observed: &Observed, name: &str, id: &str, grace: i64) {
    worker.marks.lock().stopping.insert(id.to_owned());
    if let Some(task) = worker.tasks.get(id) {
        task.abort();
    }
    worker.marks.lock().ready.remove(id);
    let hook = find(pod, name).and_then(|c| c.lifecycle.as_ref()?.pre_stop.clone());
    let target = find(pod, name).map(|c| target(&worker.shared, observed, c, id));
    let (runtime, poke, marks) = (worker.shared.runtime.clone(), worker.poke.clone(), worker.marks.clone());
    let (events, subject) = (worker.shared.events.clone(), worker.subject.clone());
    let id = id.to_owned();
    tokio::spawn(async move {
        let grace = Duration::from_secs(grace.max(0).unsigned_abs());
        let began = tokio::time::Instant::now();
        if let (Some(hook), Some(target)) = (hook, target)
            && !grace.is_zero()
            && let Err(why) = hooks::run(&*runtime, &target, &hook, grace).await
        {
            events.warn(&subject, "FailedPreStopHook", format!("PreStopHook failed: {why}"));
        }
        // After a long hook there are still two seconds for the signal.
        let left = grace.saturating_sub(began.elapsed()).max(grace.min(Duration::from_secs(2)));
        if let Err(e) = runtime.stop_container(&id, left).await {
            tracing::warn!(container = id, error = %e, "a container does not stop");
            marks.lock().stopping.remove(&id);
        }
        poke.notify_one();
    });
}

/// Stops with less grace what is being stopped already.
pub(super) fn stop_now(shared: &Arc<Shared>, id: &str, grace: i64) {
    let (runtime, id) = (shared.runtime.clone(), id.to_owned());
    tokio::spawn(async move {
        let grace = Duration::from_secs(grace.max(0).unsigned_abs());
        if let Err(e) = runtime.stop_container(&id, grace).await {
            tracing::warn!(container = id, error = %e, "a container does not stop");
        }
    });
}

/// What an ended container left to say.
pub(super) fn last_words(shared: &Shared, pod: &Pod, c: &Container) -> String {
    let (namespace, name, uid) = config::identity(pod);
    let file = config::termination_log(&shared.paths, uid, &c.name, c.attempt);
    let text = tail(&file, MAX_MESSAGE);
    let policy = find(pod, &c.name).and_then(|c| c.termination_message_policy.as_deref());
    if !text.is_empty() || policy != Some("FallbackToLogsOnError") || c.exit_code == 0 {
        return text;
    }
    let log = shared.paths.pod_logs(namespace, name, uid).join(config::log_path(&c.name, c.attempt));
    // A line of a CRI log is: time, stream, tag, text.
    let text = tail(&log, MAX_LOG_MESSAGE * 2);
    let lines: Vec<&str> = text.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
    let from = lines.len().saturating_sub(80);
    let joined = lines[from..].join("\n");
    joined.chars().rev().take(MAX_LOG_MESSAGE).collect::<Vec<_>>().into_iter().rev().collect()
}

/// The end of a file, at most so many bytes; empty when it cannot be read.
fn tail(path: &std::path::Path, limit: usize) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(limit as u64)))?;
        let mut bytes = Vec::new();
        file.take(limit as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
