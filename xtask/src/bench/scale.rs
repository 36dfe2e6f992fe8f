//! Many nodes and pods: what the scheduler and the controllers do with them, seen by a client.
//!
//! The nodes are simulated by one process beside the servers (`kybern bench hollow`), which reports every
//! pod as running as soon as it is bound; its requests are part of the load.

use super::client::{Api, Watch};
use super::rollout::is_true;
use super::row;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const NAMESPACE: &str = "scale";
/// Pods of one Deployment while the cluster is filled.
const FILLED_BY: usize = 3_000;
/// Pods of the Deployment that is measured, and of those that are created one by one.
const PODS: usize = 10_000;
/// Pods that a simulated node takes.
const PODS_OF_A_NODE: usize = 110;
/// Clients that create pods.
const CLIENTS: usize = 32;
/// Pods a second, and how many of them, while latency is measured.
const STEADY: (u32, usize) = (100, 1_000);

/// Everything in order.
pub(crate) async fn run(api: &Api, nodes: usize, pods: usize) -> Result<()> {
    let (room, needed) = (nodes * PODS_OF_A_NODE, pods + 2 * PODS + STEADY.1);
    ensure!(
        room >= needed,
        "{nodes} nodes take {room} pods, and {needed} are needed: use more --nodes or fewer --pods"
    );
    let mut first = api.open(0).await?;
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    first.call("POST", "/api/v1/namespaces", "application/json", text(&body)).await?;
    ready_nodes(api, nodes).await?;
    let begun = Instant::now();
    for (i, left) in (0..pods).step_by(FILLED_BY).enumerate() {
        let size = FILLED_BY.min(pods - left);
        deploy(api, &format!("fill-{i}"), size, size).await?;
    }
    let rate = pods as f64 / begun.elapsed().as_secs_f64();
    row(&format!("{pods} pods by Deployments of {FILLED_BY}, one after another"), format!("{rate:.0}/s"), "");
    bound_one_by_one(api).await?;
    steady(api).await?;
    scaled(api).await
}

fn text(body: &Value) -> Bytes {
    body.to_string().into()
}

/// Waits until so many nodes are Ready and take pods.
async fn ready_nodes(api: &Api, wanted: usize) -> Result<()> {
    let begun = Instant::now();
    let mut watch = Watch::open(api, "/api/v1/nodes?watch=1").await?;
    let mut ready = std::collections::HashSet::new();
    while ready.len() < wanted {
        let node = watch.next().await?["object"].take();
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let tainted = node["spec"]["taints"].as_array().is_some_and(|t| !t.is_empty());
        if is_true(&node, "Ready") && !tainted {
            ready.insert(name);
        }
    }
    row(&format!("{wanted} nodes registered to Ready"), format!("{:.2} s", begun.elapsed().as_secs_f64()), "");
    Ok(())
}

fn template(app: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"automountServiceAccountToken": false, "containers": [
            {"name": "main", "image": "none", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}},
        ]},
    })
}

/// Creates a Deployment and waits until `ready` of its pods are Ready.
async fn deploy(api: &Api, name: &str, replicas: usize, ready: usize) -> Result<()> {
    let mut connection = api.open(0).await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name)},
    });
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    connection.call("POST", &path, "application/json", text(&deployment)).await?;
    until_ready(api, name, ready).await
}

async fn until_ready(api: &Api, name: &str, wanted: usize) -> Result<()> {
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments?watch=1&fieldSelector=metadata.name%3D{name}");
    let mut watch = Watch::open(api, &path).await?;
    while watch.next().await?["object"]["status"]["readyReplicas"].as_u64().unwrap_or_default() < wanted as u64 {}
    Ok(())
}

/// A Deployment from nothing to its full size, while another client goes on writing.
async fn scaled(api: &Api) -> Result<()> {
    deploy(api, "scaled", 0, 0).await?;
    let over = Arc::new(AtomicBool::new(false));
    let probe = tokio::spawn(probe(api.clone(), over.clone()));
    let mut connection = api.open(1).await?;
    let begun = Instant::now();
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/scaled");
    let patch = json!({"spec": {"replicas": PODS}});
    connection.call("PATCH", &path, "application/merge-patch+json", text(&patch)).await?;
    until_ready(api, "scaled", PODS).await?;
    let took = begun.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    row(&format!("Deployment scaled from 0 to {PODS} Ready"), format!("{took:.1} s"), "<= 15 s");
    let times = probe.await??;
    row("another client's mutating calls meanwhile", quantiles(&times), "p99 <= 100 ms");
    Ok(())
}

/// Patches an object twenty times a second; how long each took.
async fn probe(api: Api, over: Arc<AtomicBool>) -> Result<Vec<Duration>> {
    let mut connection = api.open(2).await?;
    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}});
    connection.call("POST", &maps, "application/json", text(&map)).await?;
    let path = format!("{maps}/probe");
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        pace.tick().await;
        let patch = json!({"data": {"n": times.len().to_string()}});
        let sent = Instant::now();
        connection.call("PATCH", &path, "application/merge-patch+json", text(&patch)).await?;
        times.push(sent.elapsed());
    }
    Ok(times)
}

fn quantiles(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let ms = |q: f64| times.get((times.len() as f64 * q) as usize).map_or(0.0, |d| d.as_secs_f64() * 1e3);
    format!("p50 {:.1}, p99 {:.1} ms", ms(0.5), ms(0.99))
}

fn pod(name: &str) -> Bytes {
    let mut pod = template("single");
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = name.into();
    text(&pod)
}

fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

/// When each single pod was first seen, and when it was seen bound.
type Seen = HashMap<String, (Instant, Option<Instant>)>;

/// Follows the single pods until `count` of them are bound.
async fn follow(mut watch: Watch, count: usize) -> Result<Seen> {
    let (mut seen, mut bound) = (Seen::new(), 0);
    while bound < count {
        let event = watch.next().await?;
        ensure!(event["type"] != "ERROR", "the watch of pods failed: {event}");
        let name = event["object"]["metadata"]["name"].as_str().context("a name")?.to_owned();
        let entry = seen.entry(name).or_insert((Instant::now(), None));
        if entry.1.is_none() && event["object"]["spec"]["nodeName"].is_string() {
            entry.1 = Some(Instant::now());
            bound += 1;
        }
    }
    Ok(seen)
}

async fn watch_single(api: &Api) -> Result<Watch> {
    Watch::open(api, &format!("{}?watch=1&labelSelector=app%3Dsingle", pods())).await
}

async fn bound_one_by_one(api: &Api) -> Result<()> {
    let following = tokio::spawn(follow(watch_single(api).await?, PODS));
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let clients = (0..CLIENTS).map(|c| {
        let (api, next) = (api.clone(), next.clone());
        tokio::spawn(async move {
            let mut connection = api.open(c).await?;
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= PODS {
                    return anyhow::Ok(());
                }
                connection.call("POST", &pods(), "application/json", pod(&format!("single-{i}"))).await?;
            }
        })
    });
    for done in try_join_all(clients).await? {
        done?;
    }
    let created = PODS as f64 / begun.elapsed().as_secs_f64();
    following.await??;
    let rate = PODS as f64 / begun.elapsed().as_secs_f64();
    row(&format!("{PODS} pods created one by one and bound"), format!("{rate:.0}/s"), ">= 2,000/s");
    row("  of these the creates alone", format!("{created:.0}/s"), "");
    Ok(())
}

async fn steady(api: &Api) -> Result<()> {
    let (rate, count) = STEADY;
    let watch = Watch::open(api, &format!("{}?watch=1&labelSelector=app%3Dsingle&resourceVersion=0", pods())).await?;
    let following = tokio::spawn(follow(watch, PODS + count));
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut connection = api.open(0).await?;
    for i in 0..count {
        pace.tick().await;
        connection.call("POST", &pods(), "application/json", pod(&format!("steady-{i}"))).await?;
    }
    let seen = following.await??;
    let steady = seen.iter().filter(|(name, _)| name.starts_with("steady-"));
    let times: Vec<Duration> =
        steady.filter_map(|(_, (seen, bound))| Some(bound.as_ref()?.duration_since(*seen))).collect();
    row(&format!("pod seen to seen bound, at {rate}/s"), quantiles(&times), "p99 <= 50 ms");
    Ok(())
}
