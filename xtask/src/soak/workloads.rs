//! Jobs and rollouts while leaders and agents are killed: everything is counted once, and ends.

use super::cluster::Cluster;
use super::leftovers::Inventory;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const JOBS: usize = 6;
const COMPLETIONS: u64 = 8;
const KILLS: usize = 12;
/// Between two kills: long enough for pods to start, short enough to meet them in every state.
const PAUSE: Duration = Duration::from_millis(1700);

pub(super) fn run() -> Result<()> {
    let before = Inventory::take()?;
    let cluster = Cluster::create("soak", 3, 2)?;
    for job in 0..JOBS {
        cluster.apply(&indexed_job(job))?;
    }
    cluster.apply(&deployment(0))?;
    for kill in 0..KILLS {
        std::thread::sleep(PAUSE);
        let victim = match kill % 3 {
            0 => cluster.leader()?,
            1 => "node-1".to_owned(),
            _ => "node-2".to_owned(),
        };
        cluster.kybern(&["dev", "kill", &victim])?;
        // A new rollout begins while the last one is under way.
        cluster.apply(&deployment(kill + 1))?;
        println!("    killed {victim}");
    }
    let ended = Instant::now();
    for job in 0..JOBS {
        check_job(&cluster, job)?;
    }
    check_deployment(&cluster)?;
    println!("    all ended {:.1} s after the last kill", ended.elapsed().as_secs_f64());
    drop(cluster);
    before.nothing_new()
}

fn indexed_job(n: usize) -> String {
    format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{ name: count-{n} }}
spec:
  completions: {COMPLETIONS}
  parallelism: 3
  completionMode: Indexed
  backoffLimit: 50
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
      - {{ name: main, image: "kybern.local/web:1", command: ["/bin/sh", "-c", "sleep 1"] }}
"#
    )
}

fn deployment(round: usize) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: rolling }}
spec:
  replicas: 4
  selector: {{ matchLabels: {{ app: rolling }} }}
  template:
    metadata: {{ labels: {{ app: rolling }}, annotations: {{ round: "{round}" }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: kybern.local/web:1
        ports: [{{ containerPort: 8080, name: http }}]
        readinessProbe: {{ httpGet: {{ path: /, port: http }}, periodSeconds: 1 }}
"#
    )
}

/// Every index has succeeded once, and the Job says so.
fn check_job(cluster: &Cluster, n: usize) -> Result<()> {
    let name = format!("count-{n}");
    let job = cluster.patiently(&name, || {
        let job = cluster.get(&["job", &name])?;
        let complete = job["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Complete");
        if complete { Ok(job) } else { bail!("{name} is not complete: {}", job["status"]) }
    })?;
    let status = &job["status"];
    if status["succeeded"].as_u64() != Some(COMPLETIONS)
        || status["completedIndexes"] != format!("0-{}", COMPLETIONS - 1)
    {
        bail!("{name} counts wrong: {status}");
    }
    if status["uncountedTerminatedPods"].as_object().is_some_and(|u| u.values().any(|v| !v.is_null())) {
        bail!("{name} leaves pods uncounted: {status}");
    }
    let pods = cluster.get(&["pods", "-l", &format!("job-name={name}")])?;
    let items = pods["items"].as_array().context("pods")?;
    let succeeded: Vec<&Value> = items.iter().filter(|p| p["status"]["phase"] == "Succeeded").collect();
    let index = |p: &&Value| p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"].to_string();
    let indexes: BTreeSet<String> = succeeded.iter().map(index).collect();
    if indexes.len() as u64 != COMPLETIONS || succeeded.len() as u64 != COMPLETIONS {
        bail!("{name}: {} pods succeeded with {} indexes", succeeded.len(), indexes.len());
    }
    let held = items.iter().filter(|p| p["metadata"]["finalizers"].is_array()).count();
    if held > 0 {
        bail!("{name}: {held} pods keep their finalizer");
    }
    Ok(())
}

/// The last round is rolled out, with as many pods as asked for.
fn check_deployment(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["rollout", "status", "deployment/rolling", "--timeout=120s"])?;
    cluster.patiently("old pods are gone", || {
        let pods = cluster.get(&["pods", "-l", "app=rolling"])?;
        let rounds: Vec<String> = pods["items"]
            .as_array()
            .context("pods")?
            .iter()
            .map(|p| p["metadata"]["annotations"]["round"].as_str().unwrap_or_default().to_owned())
            .collect();
        if rounds.len() == 4 && rounds.iter().all(|r| *r == KILLS.to_string()) {
            Ok(())
        } else {
            bail!("pods of rounds {rounds:?}")
        }
    })
}
