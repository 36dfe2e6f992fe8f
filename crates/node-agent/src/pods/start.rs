//! The worker's hands: making sandboxes and containers, and watching them.

use super::handlers::Target;
use super::observe::Observed;
use super::plan::Marks;
use super::probe::Watched;
use super::spec::{self, Role};
use super::status::Waiting;
use super::worker::{Held, Worker};
use super::{Shared, config, env, fields, resources};
use crate::error::{Error, Result};
use crate::events::{Recorder, Subject};
use crate::images::credentials::Keyring;
use crate::images::pull::{Order, Policy, Pulled, Readiness};
use crate::references::Lookup;
use crate::volumes::{self, Mounted};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{self as core, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kybern_client::transport::Resource;
use kybern_wire::cri as pb;
use std::collections::BTreeMap;

/// When a container that could not be made is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// What is looked at again at every change, because it may have been mended: a missing object may have
/// come, and the image puller keeps its own back-off.
const CHEAP: [&str; 4] = ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError", "ContainerCreating"];

fn around(shared: &Shared, observed: &Observed) -> fields::Surroundings {
    let host_ip = shared.config.node_ip.to_string();
    let ips = observed.sandbox.as_ref().map(|s| s.ips.clone()).unwrap_or_default();
    fields::Surroundings {
        pod_ips: if ips.is_empty() { vec![host_ip.clone()] } else { ips },
        host_ip,
        cpu_milli: shared.allocatable.cpu_milli,
        memory: shared.allocatable.memory,
    }
}

/// Makes a sandbox; false when it must wait.
pub(super) async fn sandbox(worker: &mut Worker, pod: &Pod, attempt: u32) -> Result<bool> {
    let shared = worker.shared.clone();
    if !config::host_network(pod) && !*shared.network_ready.borrow() {
        // The manager pokes every pod when the network comes up.
        if !std::mem::replace(&mut worker.told_network, true) {
            let message = "network is not ready: container runtime network not ready: waiting for the pod network";
            shared.events.warn(&worker.subject, "NetworkNotReady", message.into());
        }
        return Ok(false);
    }
    let cgroup = shared.cgroups.pod(resources::qos(pod), &worker.subject.uid);
    shared.cgroups.ensure(&cgroup, &resources::pod_limits(pod, &shared.huge))?;
    let failed = |what: &str, e: Error| {
        shared.events.warn(
            &worker.subject,
            "FailedCreatePodSandBox",
            format!("Failed to create pod sandbox: {what}{e}"),
        );
        e
    };
    let made = config::sandbox(&shared.config, pod, attempt, &cgroup, shared.seccomp);
    let (wanted, omitted) = made.map_err(|e| failed("", e))?;
    for text in omitted {
        shared.events.warn(&worker.subject, "DNSConfigForming", text);
    }
    let logs = std::path::PathBuf::from(&wanted.log_directory);
    std::fs::create_dir_all(&logs).map_err(Error::file("create", &logs))?;
    let handler = handler(&shared, pod).await.map_err(|e| failed("get runtime handler: ", e))?;
    shared.runtime.run_sandbox(wanted, &handler).await.map_err(|e| failed("", e))?;
    Ok(true)
}

/// The runtime handler that the pod's class names; empty: the runtime's default.
async fn handler(shared: &Shared, pod: &Pod) -> Result<String> {
    let Some(class) = pod.spec.as_ref().and_then(|s| s.runtime_class_name.as_deref()).filter(|c| !c.is_empty()) else {
        return Ok(String::new());
    };
    let classes = Resource::new("node.k8s.io", "v1", "runtimeclasses");
    let found = shared.writer.transport().get(&classes, "", class).await?;
    let class: RuntimeClass = found.view().map_err(|source| Error::Decode { what: "RuntimeClass", source })?;
    Ok(class.handler)
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
    let spec = pod.spec.clone().unwrap_or_default();
    let Some((c, _)) = spec::find(&spec, name) else { return Ok(false) };
    match prepare(worker, pod, observed, &c, (attempt, step)).await {
        Ok(id) => {
            worker.held.remove(name);
            worker.note_applied(&c)?;
            watch(worker, pod, observed, name, &id, true);
            Ok(true)
        }
        Err(Refusal::Error(e)) => Err(e),
        Err(Refusal::Image(held, image)) => Ok(hold(worker, name, held, &image)),
        Err(Refusal::Hold(held)) => Ok(hold(worker, name, held, c.image.as_deref().unwrap_or_default())),
    }
}

/// Notes that a container waits, and says so where that is news.
fn hold(worker: &mut Worker, name: &str, mut held: Held, image: &str) -> bool {
    if worker.held.get(name).is_none_or(|h| h.waiting != held.waiting) {
        tell(&worker.shared.events, &worker.subject, image, &held.waiting);
    }
    if held.waiting.reason == "FailedMount" {
        held.waiting = Waiting { reason: "ContainerCreating".into(), message: String::new() };
    }
    worker.held.insert(name.to_owned(), held);
    false
}

/// The events of a container that must wait.
fn tell(events: &Recorder, subject: &Subject, image: &str, waiting: &Waiting) {
    let Waiting { reason, message } = waiting;
    match reason.as_str() {
        _ if message.is_empty() => return,
        "FailedMount" => return events.warn(subject, "FailedMount", message.clone()),
        "ErrImagePull" => events.warn(subject, "Failed", format!("Failed to pull image {image:?}: {message}")),
        "ImagePullBackOff" => events.normal(subject, "BackOff", message.clone()),
        "ErrImageNeverPull" => events.warn(subject, "ErrImageNeverPull", message.clone()),
        "InvalidImageName" | "ImageInspectError" => events.warn(subject, "InspectFailed", message.clone()),
        _ => return events.warn(subject, "Failed", format!("Error: {message}")),
    }
    events.warn(subject, "Failed", format!("Error: {reason}"));
}

/// Why a container is not started.
enum Refusal {
    /// It waits, with a reason for the status.
    Hold(Held),
    /// It waits for this image.
    Image(Held, String),
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
    let (image, pulled) = image(worker, pod, reference, c.image_pull_policy.as_deref()).await?;
    let images = image_volumes(worker, pod).await?;
    let mut mounted = set_up_volumes(worker, pod, observed).await.map_err(|e| hold("FailedMount", e.to_string()))?;
    mounted.images = images;
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
            machine: shared.machine(),
            target: debugged(pod, observed, &c.name),
            seccomp: shared.seccomp,
        })
    });
    let wanted = making.map_err(|e| hold("CreateContainerConfigError", e.to_string()))?;
    let (namespace, pod_name, uid) = config::identity(pod);
    let log_dir = shared.paths.pod_logs(namespace, pod_name, uid).join(&c.name);
    std::fs::create_dir_all(&log_dir).map_err(Error::file("create", &log_dir))?;
    let Some(sandbox) = &observed.sandbox else { return Err(hold("ContainerCreating", String::new())) };
    shared.events.normal(&worker.subject, "Pulled", arrival(reference, pulled));
    let cgroup = shared.cgroups.pod(resources::qos(pod), uid);
    let (sandbox_config, _) = config::sandbox(&shared.config, pod, sandbox.attempt, &cgroup, shared.seccomp)?;
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

/// Sees to the images that are volumes; their ids by the volumes' names.
async fn image_volumes(worker: &mut Worker, pod: &Pod) -> std::result::Result<BTreeMap<String, String>, Refusal> {
    let mut found = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let Some(source) = &volume.image else { continue };
        let reference = source.reference.as_deref().unwrap_or_default();
        let (image, _) = image(worker, pod, reference, source.pull_policy.as_deref()).await?;
        found.insert(volume.name.clone(), image.id);
    }
    Ok(found)
}

/// Sees to an image; how it came, when it was pulled.
async fn image(
    worker: &mut Worker,
    pod: &Pod,
    reference: &str,
    policy: Option<&str>,
) -> std::result::Result<(pb::Image, Option<Pulled>), Refusal> {
    let shared = worker.shared.clone();
    let keyring = keyring(worker, pod);
    let order = Order {
        pod: &worker.subject.uid,
        image: reference,
        policy: Policy::of(policy, reference),
        poke: &worker.poke,
        keyring: &keyring,
    };
    let (waiting, until) = match shared.puller.ensure(order).await {
        Readiness::Ready { pulled } => {
            let full = crate::images::reference::normalise(reference).unwrap_or_default();
            return Ok((shared.runtime.image(&full).await?.unwrap_or_default(), pulled));
        }
        Readiness::Pulling { begun } => {
            if begun {
                shared.events.normal(&worker.subject, "Pulling", format!("Pulling image {reference:?}"));
            }
            (Waiting { reason: "ContainerCreating".into(), message: String::new() }, None)
        }
        Readiness::Waiting { reason, message, retry_at } => (Waiting { reason: reason.into(), message }, retry_at),
    };
    Err(Refusal::Image(Held { waiting, until }, reference.to_owned()))
}

/// What the pod's imagePullSecrets hold. One that is missing or unreadable is told and left out.
fn keyring(worker: &Worker, pod: &Pod) -> Keyring {
    let mut ring = Keyring::default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut missing = Vec::new();
    for reference in pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
        match worker.shared.references.secret(namespace, &reference.name) {
            None => missing.push(reference.name.clone()),
            Some(secret) => {
                if let Err(why) = ring.add_secret(&secret) {
                    tracing::debug!(secret = reference.name, why, "an imagePullSecret is left out");
                    missing.push(reference.name.clone());
                }
            }
        }
    }
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        worker.shared.events.warn(&worker.subject, "FailedToRetrieveImagePullSecret", message);
    }
    ring
}

fn arrival(image: &str, pulled: Option<Pulled>) -> String {
    match pulled {
        None => format!("Container image {image:?} already present on machine"),
        Some(Pulled { took, size }) => {
            let ms = took.as_millis();
            let took = if ms < 1000 { format!("{ms}ms") } else { format!("{}.{:03}s", ms / 1000, ms % 1000) };
            format!(
                "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {size} bytes."
            )
        }
    }
}

/// The runtime id of the container that an ephemeral one debugs.
fn debugged<'a>(pod: &Pod, observed: &'a Observed, name: &str) -> Option<&'a str> {
    let target = spec::debugged(pod.spec.as_ref()?, name)?;
    observed.latest(target).map(|c| c.id.as_str())
}

/// Starts the task that keeps a running container's marks. One that ran before the agent did is as ready
/// as was reported last, until its probes say otherwise.
pub(super) fn watch(worker: &mut Worker, pod: &Pod, observed: &Observed, name: &str, id: &str, fresh: bool) {
    let spec = pod.spec.clone().unwrap_or_default();
    let Some((container, role)) = spec::find(&spec, name) else { return };
    let (mut fresh, mut was_ready) = (fresh, false);
    {
        let mut marks = worker.marks.lock();
        if !fresh && role != Role::Ephemeral {
            was_ready = adopt(pod, id, &mut marks);
        }
        let hook = container.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some());
        fresh &= hook;
        if fresh {
            marks.hooking.insert(id.to_owned());
        }
    }
    let watched = Watched {
        runtime: worker.shared.runtime.clone(),
        target: target(&worker.shared, observed, &container, id),
        marks: worker.marks.clone(),
        poke: worker.poke.clone(),
        events: worker.shared.events.clone(),
        subject: worker.subject.clone(),
        fresh,
        was_ready,
    };
    worker.tasks.insert(id.to_owned(), tokio::spawn(watched.run()));
}

/// Takes over what the status says of a container; was it ready?
fn adopt(pod: &Pod, id: &str, marks: &mut Marks) -> bool {
    let Some(status) = &pod.status else { return false };
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let mut of_id =
        all.filter(|s| s.container_id.as_deref().and_then(|c| c.split_once("://")).is_some_and(|(_, c)| c == id));
    let Some(known) = of_id.next() else { return false };
    if known.started == Some(true) {
        marks.started.insert(id.to_owned());
    }
    if known.ready {
        marks.ready.insert(id.to_owned());
    }
    known.ready
}

pub(super) fn target(shared: &Shared, observed: &Observed, container: &core::Container, id: &str) -> Target {
    let ip = around(shared, observed).pod_ips.into_iter().next().unwrap_or_default();
    Target { id: id.to_owned(), ip, container: container.clone() }
}
