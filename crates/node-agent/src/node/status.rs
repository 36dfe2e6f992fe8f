//! Registers the node and keeps its status.

use super::capacity::Capacity;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::volumes::local::DIRECTORY;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kybern_api::error::Reason;
use kybern_api::meta::time;
use kybern_api::seam::Clock;
use kybern_client::transport::{MERGE_PATCH, Resource};
use kybern_client::typed::merge_diff;
use kybern_client::write::{At, Writer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// An unchanged status is written again after this time.
const PERIOD: Duration = Duration::from_secs(300);
/// The runtime is asked how it is this often.
const CHECK: Duration = Duration::from_secs(10);
/// A failed step is repeated after this time.
const RETRY: Duration = Duration::from_secs(1);
/// Level of the API this agent speaks.
const KUBELET_VERSION: &str = "v1.36.0";

/// What the conditions are made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the runtime does not work; None: it does.
    pub runtime: Option<String>,
    /// Can pods be wired?
    pub network: bool,
}

/// The node object's keeper.
pub struct NodeStatus {
    config: Config,
    capacity: Capacity,
    runtime: Arc<dyn Runtime>,
    writer: Writer,
    clock: Arc<dyn Clock>,
    network: watch::Receiver<bool>,
}

fn nodes() -> Resource {
    Resource::new("", "v1", "nodes")
}

impl NodeStatus {
    /// For a node with these parts.
    pub fn new(
        config: Config,
        capacity: Capacity,
        runtime: Arc<dyn Runtime>,
        writer: Writer,
        clock: Arc<dyn Clock>,
        network: watch::Receiver<bool>,
    ) -> Self {
        Self { config, capacity, runtime, writer, clock, network }
    }

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

    /// Keeps the status current until cancelled: at once when the network's state changes, within
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
            }
        }
    }

    async fn health(&mut self) -> Health {
        let network = *self.network.borrow_and_update();
        let runtime = match self.runtime.status().await {
            Err(e) => Some(format!("container runtime is down: {e}")),
            Ok(conditions) => conditions
                .into_iter()
                .find(|c| c.r#type == "RuntimeReady" && !c.status)
                .map(|c| format!("container runtime not ready: {}", c.message)),
        };
        Health { runtime, network }
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
        let resources = resources(&self.capacity, self.config.max_pods);
        new["capacity"] = resources.clone();
        new["allocatable"] = resources;
        new["nodeInfo"] = node_info(&version.unwrap_or_default());
        new["conditions"] = conditions(&old, health, self.clock.now());
        let Some(diff) = merge_diff(&old, &new) else { return Ok(()) };
        let at = At { resource: &nodes, namespace: "", name: &self.config.name, subresource: "status" };
        self.writer.patch(at, MERGE_PATCH, &json!({ "status": diff })).await.map(drop).map_err(Into::into)
    }
}

/// `capacity` and `allocatable` of a node.
pub fn resources(capacity: &Capacity, pods: u32) -> Value {
    json!({
        "cpu": (capacity.cpu_milli / 1000).to_string(),
        "memory": format!("{}Ki", capacity.memory / 1024),
        "ephemeral-storage": format!("{}Ki", capacity.disk / 1024),
        "pods": pods.to_string(),
    })
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
        (None, true) => ("True", "KubeletReady", "the node agent is posting ready status".to_owned()),
        (Some(why), _) => ("False", "KubeletNotReady", why.clone()),
        (None, false) => {
            ("False", "KubeletNotReady", "container runtime network not ready: waiting for the pod network".to_owned())
        }
    };
    let good = |kind: &'static str, reason: &'static str, message: &str| (kind, ("False", reason, message.to_owned()));
    let all = [
        good("MemoryPressure", "KubeletHasSufficientMemory", "the node has sufficient memory available"),
        good("DiskPressure", "KubeletHasNoDiskPressure", "the node has no disk pressure"),
        good("PIDPressure", "KubeletHasSufficientPID", "the node has sufficient PID available"),
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
    fn a_node_is_ready_with_runtime_and_network() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let first = conditions(&json!({}), &Health { runtime: None, network: false }, at(0));
        assert_eq!(ready(&first)["status"], "False");
        let old = json!({ "conditions": first });
        let second = conditions(&old, &Health { runtime: None, network: true }, at(5));
        assert_eq!(
            (&ready(&second)["status"], &ready(&second)["lastTransitionTime"]),
            (&json!("True"), &json!("1970-01-01T00:00:05Z"))
        );
        let old = json!({ "conditions": second });
        let third = conditions(&old, &Health { runtime: None, network: true }, at(9));
        assert_eq!(ready(&third)["lastTransitionTime"], "1970-01-01T00:00:05Z");
        assert_eq!(ready(&third)["lastHeartbeatTime"], "1970-01-01T00:00:09Z");
    }
}
