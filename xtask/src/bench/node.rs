//! Pods on a real node, beside what the runtime needs for them when only the bench asks it.

use super::client::{Api, Watch};
use super::cluster::Cluster;
use super::{process, row};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const NODE: &str = "node-1";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// Pods that are started one after the other.
const ALONE: usize = 40;
/// Pods that are started together.
const MANY: usize = 100;
/// Times that a ConfigMap is changed.
const CHANGES: usize = 50;

/// Everything in order.
pub(crate) fn run(runtime: &Runtime, cluster: &Cluster, api: &Api) -> Result<()> {
    let bare = bare(cluster)?;
    println!("\npods on one node (image present), beside its runtime alone");
    for (step, call) in [("sandbox", "RunPodSandbox"), ("create", "CreateContainer"), ("start", "StartContainer")] {
        row(&format!("{call} alone, p50"), format!("{:.0} ms", bare[step]), "");
    }
    let times = runtime.block_on(alone(api))?;
    let (p50, whole) = (quantile(&times, 0.5), bare["whole"]);
    row("pod created to Running, one at a time, p50", format!("{p50:.0} ms"), "<= 250 ms");
    row("pod created to Running, one at a time, p99", format!("{:.0} ms", quantile(&times, 0.99)), "<= 800 ms");
    row("of that without the runtime, p50", format!("{:.0} ms", p50 - whole), "<= 40 ms");
    let rate = runtime.block_on(many(api))?;
    let share = rate / bare["rate"] * 100.0;
    row(&format!("{MANY} pods at once"), format!("{rate:.1}/s"), "");
    row("of the runtime's rate alone", format!("{share:.0} %"), &format!(">= 80 % of {:.1}/s", bare["rate"]));
    process::idle_of(cluster, |host| (host == NODE).then_some("<= 40 MB, <= 3 %, with 100 pods"))?;
    let times = runtime.block_on(config_map(api))?;
    row("ConfigMap changed to file changed, p99", format!("{:.0} ms", quantile(&times, 0.99)), "<= 2,000 ms");
    Ok(())
}

/// The runtime's own figures, while the agent is away: milliseconds a call, pods a second.
fn bare(cluster: &Cluster) -> Result<HashMap<String, f64>> {
    cluster.host("stop", NODE)?;
    let socket = Cluster::directories(NODE).1.join("containerd.sock").display().to_string();
    let (alone, many) = (ALONE.to_string(), MANY.to_string());
    let args = ["--socket", &socket, "--image", "kybern.local/web:1", "--alone", &alone, "--many", &many];
    let said = cluster.kybern(&[&["bench", "runtime"][..], &args].concat())?;
    cluster.host("start", NODE)?;
    Ok(serde_json::from_str(said.trim())?)
}

fn quantile(times: &[Duration], q: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = ((times.len() as f64 * q) as usize).min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

fn pod(name: &str) -> Value {
    let container = json!({ "name": "c", "image": "kybern.local/web:1", "command": ["/bin/sh", "-c", "sleep 3600"] });
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [container] });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "bench" } }, "spec": spec })
}

async fn watch(api: &Api) -> Result<Watch> {
    Watch::open(api, &format!("{PODS}?watch=1&labelSelector=app%3Dbench")).await
}

/// Each pod is created when the one before is gone.
async fn alone(api: &Api) -> Result<Vec<Duration>> {
    let mut events = watch(api).await?;
    let mut connection = api.open(0).await?;
    let mut times = Vec::new();
    // The first one meets an agent that has just begun.
    for i in 0..=ALONE {
        let name = format!("alone-{i}");
        let begun = Instant::now();
        connection.call("POST", PODS, "application/json", pod(&name).to_string().into()).await?;
        while events.next().await?["object"]["status"]["phase"] != "Running" {}
        times.push(begun.elapsed());
        connection.call("DELETE", &format!("{PODS}/{name}"), "", Vec::new().into()).await?;
        while events.next().await?["type"] != "DELETED" {}
    }
    Ok(times.split_off(1))
}

/// Pods that become Running a second, of many that are created together. They stay.
async fn many(api: &Api) -> Result<f64> {
    let mut events = watch(api).await?;
    let mut connection = api.open(0).await?;
    let begun = Instant::now();
    for i in 0..MANY {
        let pod = pod(&format!("many-{i}")).to_string();
        connection.call("POST", PODS, "application/json", pod.into()).await?;
    }
    let mut running = HashMap::new();
    while running.len() < MANY {
        let pod = events.next().await?["object"].take();
        if pod["status"]["phase"] == "Running" {
            running.insert(pod["metadata"]["name"].to_string(), ());
        }
    }
    Ok(MANY as f64 / begun.elapsed().as_secs_f64())
}

/// From a ConfigMap's change to the file in a pod's volume.
async fn config_map(api: &Api) -> Result<Vec<Duration>> {
    let mut connection = api.open(0).await?;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "bench" }, "data": { "k": "0" } });
    connection.call("POST", maps, "application/json", map.to_string().into()).await?;
    let mut reader = pod("reader");
    reader["spec"]["volumes"] = json!([{ "name": "v", "configMap": { "name": "bench" } }]);
    reader["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
    let mut events = watch(api).await?;
    let made = connection.call("POST", PODS, "application/json", reader.to_string().into()).await?;
    let made: Value = serde_json::from_slice(&made)?;
    let uid = made["metadata"]["uid"].as_str().context("a uid")?;
    loop {
        let pod = events.next().await?["object"].take();
        if pod["metadata"]["name"] == "reader" && pod["status"]["phase"] == "Running" {
            break;
        }
    }
    let file = Cluster::directories(NODE).0.join("pods").join(uid).join("volumes/v/k");
    let mut times = Vec::new();
    for i in 1..=CHANGES {
        let begun = Instant::now();
        let patch = json!({ "data": { "k": i.to_string() } }).to_string();
        let kind = "application/merge-patch+json";
        connection.call("PATCH", &format!("{maps}/bench"), kind, patch.into()).await?;
        while std::fs::read_to_string(&file).ok() != Some(i.to_string()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(begun.elapsed());
    }
    Ok(times)
}
