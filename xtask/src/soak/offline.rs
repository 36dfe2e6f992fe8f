//! A node that comes up again while no server can be reached: what may run, runs.

use super::cluster::{Cluster, Wanted};
use super::leftovers::Inventory;
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Duration;

/// What runs: each pod sleeps for a time of its own. The Deployment's needs a ConfigMap, a Secret and a token.
const WORKLOADS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: words }
data: { word: hello }
---
apiVersion: v1
kind: Secret
metadata: { name: numbers }
stringData: { number: "86001" }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: kybern.local/web:1
        command: ["/bin/sh", "-c", "grep hello /config/word && exec sleep $NUMBER"]
        env: [{ name: NUMBER, valueFrom: { secretKeyRef: { name: numbers, key: number } } }]
        volumeMounts: [{ name: words, mountPath: /config }]
      volumes: [{ name: words, configMap: { name: words } }]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: set }
spec:
  serviceName: set
  selector: { matchLabels: { app: set } }
  template:
    metadata: { labels: { app: set } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: c, image: "kybern.local/web:1", command: ["/bin/sh", "-c", "exec sleep 86002"] }]
"#;
const STATIC: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: alone }
spec:
  terminationGracePeriodSeconds: 1
  containers: [{ name: c, image: "kybern.local/web:1", command: ["/bin/sh", "-c", "exec sleep 86003"] }]
"#;

/// Long enough for all that could start to have started.
const LONG_ENOUGH: Duration = Duration::from_secs(20);

pub(super) fn run() -> Result<()> {
    let before = Inventory::take()?;
    let cluster =
        Cluster::create_with(Wanted { arguments: &["--node-arg=--offline-restart"], ..Wanted::new("alone")? })?;
    std::fs::write(cluster.host_dir("node-1").join("pod-manifests/alone.yaml"), STATIC)?;
    cluster.apply(WORKLOADS)?;
    cluster.patiently("all pods run", || {
        let running = marks()?;
        ensure!(running == ["deployment", "set", "static"], "{running:?}");
        Ok(())
    })?;
    let uid = uid(&cluster)?;
    cluster.kybern(&["dev", "stop", "server-1"])?;
    cluster.kybern(&["dev", "poweroff", "node-1"])?;
    ensure!(marks()?.is_empty(), "the node is off");
    cluster.kybern(&["dev", "start", "node-1"])?;
    cluster.patiently("pods run without a server", || {
        let running = marks()?;
        ensure!(running == ["deployment", "static"], "{running:?}");
        Ok(())
    })?;
    std::thread::sleep(LONG_ENOUGH);
    ensure!(marks()? == ["deployment", "static"], "a set's pod may have a new one elsewhere: it waits");
    println!("    without a server: the Deployment's and the static pod run, the StatefulSet's waits");
    cluster.kybern(&["dev", "start", "server-1"])?;
    cluster.patiently("all pods run again", || {
        let running = marks()?;
        ensure!(running == ["deployment", "set", "static"], "{running:?}");
        Ok(())
    })?;
    ensure!(self::uid(&cluster)? == uid, "it is the same pod");
    cluster.patiently("its token is there", || {
        let token = ["exec", "deployment/web", "--", "ls", "/var/run/secrets/kubernetes.io/serviceaccount/token"];
        cluster.kubectl(&token)
    })?;
    println!("    with the server again: all run, the same pods as before");
    drop(cluster);
    before.nothing_new()
}

fn uid(cluster: &Cluster) -> Result<String> {
    cluster.patiently("the pod", || {
        let pods = cluster.get(&["pods", "-l", "app=web"])?;
        let uid = pods["items"][0]["metadata"]["uid"].as_str();
        Ok(uid.context("a pod of the Deployment")?.to_owned())
    })
}

/// Which of the pods run, sorted.
fn marks() -> Result<Vec<&'static str>> {
    let table = Command::new("ps").args(["-eo", "args"]).output().context("ps")?;
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let runs = |seconds: &str| table.lines().any(|l| l.trim() == format!("sleep {seconds}"));
    let all = [("deployment", "86001"), ("set", "86002"), ("static", "86003")];
    Ok(all.into_iter().filter(|(_, seconds)| runs(seconds)).map(|(name, _)| name).collect())
}
