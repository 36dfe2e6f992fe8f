//! From a Deployment's creation to its pods, as a client that watches sees it.

use super::client::{Api, Watch};
use super::row;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::HashSet;
use std::time::Instant;

/// Creates what `deploy/first.yaml` declares; how long until its three pods run, and until they are ready.
pub(crate) async fn first(api: &Api) -> Result<()> {
    let text = std::fs::read_to_string("deploy/first.yaml").context("deploy/first.yaml")?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    let deployment = documents.first().context("a Deployment in deploy/first.yaml")?;
    let mut pods = Watch::open(api, "/api/v1/namespaces/default/pods?watch=1&labelSelector=app%3Dweb").await?;
    let mut connection = api.open(0).await?;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let begun = Instant::now();
    connection.call("POST", path, "application/json", deployment.to_string().into()).await?;
    let (mut running, mut ready) = (HashSet::new(), HashSet::new());
    let mut all_run = None;
    while ready.len() < 3 {
        let pod = pods.next().await?["object"].take();
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if pod["status"]["phase"] == "Running" {
            running.insert(name.clone());
        }
        if all_run.is_none() && running.len() == 3 {
            all_run = Some(begun.elapsed());
        }
        if is_true(&pod, "Ready") {
            ready.insert(name);
        }
    }
    let seconds = |d: std::time::Duration| format!("{:.2} s", d.as_secs_f64());
    let to_running = all_run.map(seconds).unwrap_or_default();
    row("Deployment created to three pods Running (image present)", to_running, "<= 1.5 s");
    row("Deployment created to three pods Ready (probe every 2 s)", seconds(begun.elapsed()), "");
    Ok(())
}

/// Is a condition of an object's status true?
pub(crate) fn is_true(object: &Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == condition && c["status"] == "True")
}
