//! Registers the node and keeps its status.

use super::capacity::Capacity;
use super::pressure::Pressure;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::pods::hugepages;
use crate::runtime::Runtime;
use crate::volumes::local::DIRECTORY;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kybern_api::error::Reason;
use kybern_api::meta::quantity::Quantity;
use kybern_api::meta::time;
use kybern_api::seam::Clock;
use kybern_client::transport::{MERGE_PATCH, Resource};
use kybern_client::typed::merge_diff;
use kybern_client::write::{At, Writer};
use kybern_wire::cri as pb;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// An unchanged status is written again after this time.
const PERIOD: Duration = Duration::from_secs(300);
/// The runtime is asked how it is this often.
const CHECK: Duration = Duration::from_secs(10);
/// A failed step is repeated after this time.
const RETRY: Duration = Duration::from_secs(1);
/// How long what comes together is waited for.
const SETTLE: Duration = Duration::from_millis(200);
/// Level of the API this agent speaks.
const KUBELET_VERSION: &str = "v1.36.0";

/// What the conditions are made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the runtime does not work; None: it does.
    pub runtime: Option<String>,
    /// Can pods be wired?
    pub network: bool,
    /// What runs short.
    pub pressures: Vec<Pressure>,
    /// Is the machine going down?
    pub leaving: bool,
}

/// The node object's keeper.
pub struct NodeStatus {
    /// Settings.
    pub config: Config,
    /// What the machine has.
    pub capacity: Capacity,
    /// What of it is for pods.
    pub allocatable: Capacity,
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Writes as the node.
    pub writer: Writer,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Can pods be wired?
    pub network: watch::Receiver<bool>,
    /// What the node runs short of.
    pub pressures: watch::Receiver<Vec<Pressure>>,
    /// Is the machine going down?
    pub leaving: watch::Receiver<bool>,
    /// Woken when there are other images than before.
    pub images: Arc<Notify>,
}

fn nodes() -> Resource {
    Resource::new("", "v1", "nodes")
}

impl NodeStatus {
    /// Creates the node, or takes over the one that is there; its uid. Repeats until the API answers.
    pub async fn register(&self) -> String {
        loop {
            match self.try_register().await {
                Ok(uid) => return uid,
                Err(e) => tracing::warn!(error = %e, "the node is not registered yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_register(&self) -> Result<String> {
        let nodes = nodes();
        let at = At { resource: &nodes, namespace: "", name: "", subresource: "" };
        let answer = match self.writer.create(at, &self.node()).await {
            Ok(written) => written.bytes,
            Err(e) if e.reason == Reason::AlreadyExists => {
                let metadata = json!({ "labels": self.labels(), "annotations": self.annotations() });
                let at = At { name: &self.config.name, ..at };
                self.writer.patch(at, MERGE_PATCH, &json!({ "metadata": metadata })).await?.bytes
            }
            Err(e) => return Err(e.into()),
        };
        let node: Node = serde_json::from_slice(&answer).map_err(|source| Error::Decode { what: "Node", source })?;
        Ok(node.metadata.uid.unwrap_or_default())
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut labels = self.config.labels.clone();
        for (key, value) in [
            ("kubernetes.io/hostname", self.config.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
        ] {
            labels.insert(key.into(), value.into());
        }
        labels
    }

    fn annotations(&self) -> Value {
        json!({ DIRECTORY: self.config.paths().storage() })
    }

    fn node(&self) -> Value {
        let taints: Vec<Value> =
            self.config.taints.iter().map(|t| json!({ "key": t.key, "value": t.value, "effect": t.effect })).collect();
        json!({
            "kind": "Node", "apiVersion": "v1",
            "metadata": { "name": self.config.name, "labels": self.labels(), "annotations": self.annotations() },
            "spec": if taints.is_empty() { json!({}) } else { json!({ "taints": taints }) },
        })
    }

    /// Keeps the status current until cancelled: at once when the network's state or the images change, within
    /// seconds when the runtime's does, and every five minutes.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut written: Option<(Health, tokio::time::Instant)> = None;
        loop {
            let health = self.health().await;
            let due = written.as_ref().is_none_or(|(h, at)| *h != health || at.elapsed() >= PERIOD);
            let mut pause = CHECK;
            if due {
                match self.write(&health).await {
                    Ok(()) => written = Some((health, tokio::time::Instant::now())),
                    Err(e) => {
                        tracing::warn!(error = %e, "the node's status was not written");
                        pause = RETRY;
                    }
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.network.changed() => {}
                Ok(()) = self.pressures.changed() => {}
                Ok(()) = self.leaving.changed() => {}
                () = self.images.notified() => {
                    // A pull changes several names.
                    tokio::time::sleep(SETTLE).await;
                    written = None;
                }
            }
        }
    }

    async fn health(&mut self) -> Health {
        let network = *self.network.borrow_and_update();
        let pressures = self.pressures.borrow_and_update().clone();
        let leaving = *self.leaving.borrow_and_update();
        let runtime = match self.runtime.status().await {
            Err(e) => Some(format!("container runtime is down: {e}")),
            Ok(conditions) => conditions
                .into_iter()
                .find(|c| c.r#type == "RuntimeReady" && !c.status)
                .map(|c| format!("container runtime not ready: {}", c.message)),
        };
        Health { runtime, network, pressures, leaving }
    }

    /// Capacity and allocatable. What others have added to the capacity stays, and pods may have all of it.
    fn resources(&self, old: &Value) -> (Value, Value) {
        let of = |c: &Capacity| resources(c, self.config.max_pods);
        let capacity = overlaid(old.get("capacity").cloned().unwrap_or_else(|| json!({})), of(&self.capacity));
        let allocatable = overlaid(capacity.clone(), of(&self.allocatable));
        (capacity, allocatable)
    }

    async fn write(&self, health: &Health) -> Result<()> {
        let nodes = nodes();
        let object = self.writer.transport().get(&nodes, "", &self.config.name).await?;
        let node: Value = object.tree().map_err(|source| Error::Decode { what: "Node", source })?;
        let old = node.get("status").cloned().unwrap_or_else(|| json!({}));
        let version = self.runtime.version().await.map(|v| format!("{}://{}", v.runtime_name, v.runtime_version));
        let mut new = old.clone();
        new["addresses"] = json!([
            { "type": "InternalIP", "address": self.config.node_ip.to_string() },
            { "type": "Hostname", "address": self.config.name },
        ]);
        let (capacity, allocatable) = self.resources(&old);
        (new["capacity"], new["allocatable"]) = (capacity, allocatable);
        new["images"] = images(self.runtime.images().await?);
        new["runtimeHandlers"] =
            json!([{ "name": "", "features": { "recursiveReadOnlyMounts": false, "userNamespaces": false } }]);
        new["features"] = json!({ "supplementalGroupsPolicy": false });
        new["nodeInfo"] = node_info(&version.unwrap_or_default());
        new["conditions"] = conditions(&old, health, self.clock.now());
        let Some(diff) = merge_diff(&old, &new) else { return Ok(()) };
        let at = At { resource: &nodes, namespace: "", name: &self.config.name, subresource: "status" };
        self.writer.patch(at, MERGE_PATCH, &json!({ "status": diff })).await.map(drop).map_err(Into::into)
    }
}

/// Puts the members of one JSON object over those of another.
fn overlaid(mut under: Value, over: Value) -> Value {
    match (&mut under, over) {
        (Value::Object(under), Value::Object(over)) => under.extend(over),
        (under, over) => *under = over,
    }
    under
}

/// `capacity` and `allocatable` of a node.
pub fn resources(capacity: &Capacity, pods: u32) -> Value {
    let mut all = json!({
        "cpu": Quantity::from_milli(capacity.cpu_milli).to_string(),
        "memory": format!("{}Ki", capacity.memory / 1024),
        "ephemeral-storage": format!("{}Ki", capacity.disk / 1024),
        "pods": pods.to_string(),
    });
    for (size, bytes) in &capacity.huge {
        all[hugepages::resource(*size)] = Quantity::from_bytes(*bytes).to_string().into();
    }
    all
}

/// The node's images, the largest first. Kubernetes tells no more of them than this.
fn images(mut images: Vec<pb::Image>) -> Value {
    const TOLD: usize = 50;
    /// Names told of one image.
    const NAMES: usize = 5;
    images.sort_by(|a, b| (b.size, &a.id).cmp(&(a.size, &b.id)));
    let told = images.into_iter().take(TOLD).map(|i| {
        let names: Vec<String> = i.repo_digests.into_iter().chain(i.repo_tags).take(NAMES).collect();
        json!({ "names": names, "sizeBytes": i.size })
    });
    told.collect()
}

fn node_info(runtime: &str) -> Value {
    let read = |p: &str| std::fs::read_to_string(p).unwrap_or_default().trim().to_owned();
    let os = read("/etc/os-release");
    let pretty = os.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).map(|v| v.trim_matches('"').to_owned());
    json!({
        "architecture": if std::env::consts::ARCH == "x86_64" { "amd64" } else { "arm64" },
        "operatingSystem": "linux",
        "osImage": pretty.unwrap_or_else(|| "Linux".into()),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "machineID": read("/etc/machine-id"),
        "systemUUID": read("/etc/machine-id"),
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": runtime,
        "kubeletVersion": KUBELET_VERSION,
        "kubeProxyVersion": "",
    })
}

/// The conditions, with heartbeat now and the transition time of what did not change.
pub fn conditions(old: &Value, health: &Health, now: Timestamp) -> Value {
    let ready = match (&health.runtime, health.network) {
        _ if health.leaving => ("False", "KubeletNotReady", "node is shutting down".to_owned()),
        (None, true) => ("True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        (Some(why), _) => ("False", "KubeletNotReady", why.clone()),
        (None, false) => {
            ("False", "KubeletNotReady", "container runtime network not ready: waiting for the pod network".to_owned())
        }
    };
    let pressure = |kind: &'static str, of: Pressure, good: (&'static str, &str), bad: (&'static str, &str)| {
        let (status, (reason, message)) = if health.pressures.contains(&of) { ("True", bad) } else { ("False", good) };
        (kind, (status, reason, message.to_owned()))
    };
    let all = [
        pressure(
            "MemoryPressure",
            Pressure::Memory,
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            Pressure::Disk,
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ),
        pressure(
            "PIDPressure",
            Pressure::Pids,
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ),
        ("Ready", ready),
    ];
    let present: Vec<Value> = old.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let find = |kind: &str| present.iter().find(|c| c["type"] == kind);
    let stamp = time::time(now);
    let ours = all.iter().map(|(kind, (status, reason, message))| {
        let since = find(kind).filter(|c| c["status"] == *status).map(|c| c["lastTransitionTime"].clone());
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": stamp, "lastTransitionTime": since.unwrap_or_else(|| stamp.clone().into()),
        })
    });
    let strangers = present.iter().filter(|c| !all.iter().any(|(kind, _)| c["type"] == *kind)).cloned();
    strangers.chain(ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(v: &Value) -> &Value {
        v.as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap()
    }

    #[test]
    fn a_pressure_is_a_condition() {
        let health = Health { pressures: vec![Pressure::Disk], ..Health::default() };
        let made = conditions(&json!({}), &health, Timestamp::UNIX_EPOCH);
        let of = |kind: &str| made.as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap().clone();
        assert_eq!(
            (of("DiskPressure")["status"].clone(), of("DiskPressure")["reason"].clone()),
            (json!("True"), json!("KubeletHasDiskPressure"))
        );
        assert_eq!(of("MemoryPressure")["status"], "False");
    }

    #[test]
    fn resources_of_others_stay() {
        let old = json!({"cpu": "1", "example.com/dongle": "4"});
        let ours = resources(&Capacity { cpu_milli: 2000, memory: 1024, disk: 1024, huge: [(2 << 20, 0)].into() }, 110);
        let made = overlaid(old, ours);
        assert_eq!((&made["cpu"], &made["example.com/dongle"]), (&json!("2"), &json!("4")));
        assert_eq!(made["hugepages-2Mi"], "0");
    }

    #[test]
    fn images_are_told_the_largest_first() {
        let image = |id: &str, size| pb::Image {
            id: id.into(),
            size,
            repo_tags: vec![format!("r.x/{id}:1")],
            ..Default::default()
        };
        let told = images((0..60).map(|n| image(&format!("i{n}"), n)).collect());
        assert_eq!(told.as_array().unwrap().len(), 50);
        assert_eq!(told[0], json!({ "names": ["r.x/i59:1"], "sizeBytes": 59 }));
    }

    #[test]
    fn a_node_is_ready_with_runtime_and_network() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let first = conditions(&json!({}), &Health { network: false, ..Health::default() }, at(0));
        assert_eq!(ready(&first)["status"], "False");
        let old = json!({ "conditions": first });
        let second = conditions(&old, &Health { network: true, ..Health::default() }, at(5));
        assert_eq!(
            (&ready(&second)["status"], &ready(&second)["lastTransitionTime"]),
            (&json!("True"), &json!("1970-01-01T00:00:05Z"))
        );
        let old = json!({ "conditions": second });
        let third = conditions(&old, &Health { network: true, ..Health::default() }, at(9));
        assert_eq!(ready(&third)["lastTransitionTime"], "1970-01-01T00:00:05Z");
        assert_eq!(ready(&third)["lastHeartbeatTime"], "1970-01-01T00:00:09Z");
    }
}
