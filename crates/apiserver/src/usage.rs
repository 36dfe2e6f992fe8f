//! The metrics API: what nodes and pods use now, asked of the nodes over their reverse streams.
//!
//! Nothing is collected for nobody: a node is asked when somebody asks here, and its answer serves for a
//! few seconds. Nodes that do not answer are left out, as the metrics server leaves them out.

use crate::cache::selector::Selector;
use crate::nodes::Nodes;
use crate::present::{Answer, Listed};
use crate::registry::kinds::{Kind, Resource};
use crate::request::chain::Authorized;
use crate::request::info::Verb;
use crate::server::Inner;
use crate::verbs::{no_such_path, not_allowed};
use futures::StreamExt;
use kybern_api::error::Status;
use kybern_api::meta::time;
use kybern_api::object::{Head, Object};
use kybern_wire::node as pb;
use kybern_wire::node::open::What;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An answer serves for so long; the window that is told to clients.
const FRESH: Duration = Duration::from_secs(5);
const WINDOW: &str = "10s";
/// A node gets so long to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nodes asked at the same time for one request.
const AT_ONCE: usize = 64;
/// Longest answer: a node with some hundred pods fills a tenth of it.
const MAX_SUMMARY: usize = 8 << 20;

/// What a node's summary says, as far as it is passed on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    node: Used,
    pods: Vec<PodUsed>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Used {
    name: String,
    cpu: Cpu,
    memory: Memory,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Cpu {
    usage_nano_cores: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Memory {
    working_set_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodUsed {
    pod_ref: PodRef,
    containers: Vec<Used>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodRef {
    uid: String,
}

/// The last answers.
#[derive(Debug, Default)]
pub(crate) struct Summaries(Mutex<HashMap<String, (Instant, Arc<Summary>)>>);

impl Summaries {
    /// A node's summary; None when it does not answer.
    async fn of(&self, nodes: &Nodes, node: &str) -> Option<Arc<Summary>> {
        let known = self.0.lock().get(node).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, s)| s.clone());
        if known.is_some() {
            return known;
        }
        let asked = tokio::time::timeout(PATIENCE, ask(nodes, node)).await;
        let summary = match asked {
            Ok(Ok(summary)) => Arc::new(summary),
            Ok(Err(status)) => {
                tracing::debug!(node, %status, "no statistics");
                return None;
            }
            Err(_) => {
                tracing::debug!(node, "no statistics in time");
                return None;
            }
        };
        let mut known = self.0.lock();
        known.retain(|_, (at, _)| at.elapsed() < FRESH);
        known.insert(node.to_owned(), (Instant::now(), summary.clone()));
        Some(summary)
    }
}

async fn ask(nodes: &Nodes, node: &str) -> Result<Summary, Status> {
    let request = pb::Http { method: "GET".into(), path: "/stats/summary".into(), ..Default::default() };
    let mut channel = nodes.open(node, What::Http(request)).await?.channel;
    let mut body = Vec::new();
    let failed = |e: &dyn std::fmt::Display| Status::internal(format!("statistics of node \"{node}\": {e}"));
    while let Some(data) = channel.receiver.recv().await.map_err(|e| failed(&e))? {
        if body.len() + data.bytes.len() > MAX_SUMMARY {
            return Err(failed(&"too long"));
        }
        body.extend_from_slice(&data.bytes);
    }
    serde_json::from_slice(&body).map_err(|e| failed(&e))
}

/// Is this what nodes or pods use, rather than something stored?
pub(crate) fn is_usage(resource: &Resource) -> bool {
    resource.def().group == kybern_api::kinds::metrics::GROUP
}

/// Answers a request for what nodes or pods use.
pub(crate) async fn run(server: &Inner, resource: &Resource, auth: &Authorized) -> Result<Answer, Status> {
    match auth.verb {
        Verb::Get => get(server, resource, auth).await.map(|o| Answer::Object(o, false)),
        Verb::List => list(server, resource, auth).await.map(Answer::List),
        verb => Err(not_allowed(&resource.def().group, &resource.def().plural, verb)),
    }
}

/// The kind whose objects are measured.
fn measured(server: &Inner, resource: &Resource) -> Result<Arc<Kind>, Status> {
    server.kinds.resource("", &resource.def().plural).ok_or_else(no_such_path)
}

/// What one node or pod uses.
pub(crate) async fn get(server: &Inner, resource: &Resource, auth: &Authorized) -> Result<Object, Status> {
    let (kind, def, a) = (measured(server, resource)?, resource.def(), &auth.attributes);
    server.barrier().await?;
    let missing = || Status::not_found(&def.group, &def.plural, &a.name);
    let keys = kind.cache.keys();
    let object = kind.cache.get(&keys.suffix_of(&keys.object(&a.namespace, &a.name))).ok_or_else(missing)?;
    usage(server, &kind, vec![object]).await.pop().ok_or_else(missing)
}

/// What the nodes or pods use that a request selects.
pub(crate) async fn list(server: &Inner, resource: &Resource, auth: &Authorized) -> Result<Listed, Status> {
    let (kind, a) = (measured(server, resource)?, &auth.attributes);
    server.barrier().await?;
    let selector = Selector::parse(&kind.def, &a.label_selector, &a.field_selector)?;
    let snapshot = kind.cache.snapshot(server.caches.applied());
    let prefix = kind.cache.keys().namespace(Some(auth.namespace()));
    let of_interest = snapshot.range(&prefix, None).map(|(_, o)| o).filter(|o| selector.matches(&o.head));
    let items = usage(server, &kind, of_interest.cloned().collect()).await;
    Ok(Listed { revision: snapshot.revision, items, next: None, remaining: None })
}

/// What these objects (nodes or pods) use; those nothing is known of are left out.
async fn usage(server: &Inner, kind: &Kind, objects: Vec<Object>) -> Vec<Object> {
    let of_pods = kind.def.plural == "pods";
    let placed: Vec<(Object, String)> = objects
        .into_iter()
        .map(|o| if of_pods { (node_of(&o), o) } else { (o.head.name.to_string(), o) })
        .map(|(node, o)| (o, node))
        .filter(|(_, node)| !node.is_empty())
        .collect();
    let names: BTreeSet<String> = placed.iter().map(|(_, node)| node.clone()).collect();
    let summaries: HashMap<String, Arc<Summary>> = futures::stream::iter(names)
        .map(|node| async move { server.usage.of(&server.nodes, &node).await.map(|s| (node, s)) })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let now = time::time(server.clock.now());
    let made = placed.iter().filter_map(|(object, node)| {
        let summary = summaries.get(node)?;
        let head = &object.head;
        let metrics = if of_pods { pod_metrics(head, summary, &now)? } else { node_metrics(head, summary, &now) };
        kybern_client::wire::object(metrics.to_string().as_bytes()).ok()
    });
    made.collect()
}

fn node_of(pod: &Object) -> String {
    #[derive(Deserialize)]
    struct View {
        #[serde(default)]
        spec: Spec,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        node_name: String,
    }
    pod.view().map(|v: View| v.spec.node_name).unwrap_or_default()
}

fn metadata(head: &Head, now: &str) -> Value {
    let labels: serde_json::Map<String, Value> =
        head.labels.iter().map(|(k, v)| (k.to_string(), v.as_str().into())).collect();
    let mut metadata = json!({ "name": head.name, "creationTimestamp": now, "labels": labels });
    if !head.namespace.is_empty() {
        metadata["namespace"] = head.namespace.as_str().into();
    }
    metadata
}

fn used(used: &Used) -> Value {
    json!({
        "cpu": format!("{}n", used.cpu.usage_nano_cores),
        "memory": format!("{}Ki", used.memory.working_set_bytes / 1024),
    })
}

fn node_metrics(head: &Head, summary: &Summary, now: &str) -> Value {
    json!({ "metadata": metadata(head, now), "timestamp": now, "window": WINDOW, "usage": used(&summary.node) })
}

/// None: none of the pod's containers runs.
fn pod_metrics(head: &Head, summary: &Summary, now: &str) -> Option<Value> {
    let pod = summary.pods.iter().find(|p| p.pod_ref.uid == head.uid)?;
    let containers: Vec<Value> = pod.containers.iter().map(|c| json!({ "name": c.name, "usage": used(c) })).collect();
    Some(json!({ "metadata": metadata(head, now), "timestamp": now, "window": WINDOW, "containers": containers }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_becomes_quantities() {
        let summary: Summary = serde_json::from_value(json!({
            "node": { "nodeName": "n1", "cpu": { "usageNanoCores": 5 }, "memory": { "workingSetBytes": 4096 } },
            "pods": [{ "podRef": { "uid": "u" }, "containers": [
                { "name": "c", "cpu": { "usageNanoCores": 7 }, "memory": { "workingSetBytes": 2048 } }] }],
        }))
        .unwrap();
        let head = |uid: &str| Head { name: "x".into(), uid: uid.into(), namespace: "ns".into(), ..Head::default() };
        let node = node_metrics(&head(""), &summary, "T");
        assert_eq!(node["usage"], json!({ "cpu": "5n", "memory": "4Ki" }));
        let pod = pod_metrics(&head("u"), &summary, "T").unwrap();
        assert_eq!(pod["containers"], json!([{ "name": "c", "usage": { "cpu": "7n", "memory": "2Ki" } }]));
        assert_eq!((&pod["metadata"]["namespace"], &pod["window"]), (&json!("ns"), &json!("10s")));
        assert!(pod_metrics(&head("other"), &summary, "T").is_none());
    }
}
