//! `kybern bench runtime`: what a container runtime needs for pods when nobody but this program asks it.
//!
//! The yardstick for an agent: a pod is RunPodSandbox, CreateContainer and StartContainer, with the pod
//! network, from an image that is there.

use crate::cli::RuntimeArgs;
use crate::roles;
use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kybern_node_agent::runtime::Runtime;
use kybern_node_agent::runtime::cri::{Cri, channel};
use kybern_wire::cri as pb;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Pods that are started at the same time when many are.
const AT_ONCE: usize = 16;

/// Starts and removes the pods; prints a JSON object with the figures.
///
/// # Errors
/// When the runtime refuses.
pub fn run(args: &RuntimeArgs) -> Result<()> {
    roles::runtime()?.block_on(async {
        let cri = Cri::new(channel(&args.socket).context("the runtime's socket")?);
        let mut alone = Vec::new();
        for i in 0..args.alone {
            let (sandbox, steps) = start(&cri, &args.image, &format!("alone-{i}")).await?;
            alone.push(steps);
            remove(&cri, &sandbox).await?;
        }
        let begun = Instant::now();
        let many = (0..args.many).map(|i| {
            let cri = &cri;
            async move { start(cri, &args.image, &format!("many-{i}")).await.map(|(sandbox, _)| sandbox) }
        });
        let sandboxes: Vec<String> = stream::iter(many).buffer_unordered(AT_ONCE).try_collect().await?;
        let rate = sandboxes.len() as f64 / begun.elapsed().as_secs_f64();
        stream::iter(&sandboxes).map(|s| remove(&cri, s)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let step = |i: usize| median(alone.iter().map(|steps| steps[i]).collect());
        let whole = median(alone.iter().map(|steps| steps.iter().sum()).collect());
        let figures = json!({ "sandbox": step(0), "create": step(1), "start": step(2), "whole": whole, "rate": rate });
        println!("{figures}");
        Ok(())
    })
}

/// The middle one, in milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

/// Starts a pod; its sandbox, and how long each call took.
async fn start(cri: &Cri, image: &str, name: &str) -> Result<(String, [Duration; 3])> {
    let begun = Instant::now();
    let sandbox_config = pb::PodSandboxConfig {
        metadata: Some(pb::PodSandboxMetadata {
            name: name.into(),
            uid: format!("bench-{name}"),
            namespace: "bench".into(),
            attempt: 0,
        }),
        ..Default::default()
    };
    let sandbox = cri.run_sandbox(sandbox_config.clone(), "").await?;
    let ran = begun.elapsed();
    let container = pb::ContainerConfig {
        metadata: Some(pb::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(pb::ImageSpec { image: image.into(), ..Default::default() }),
        command: ["/bin/sh", "-c", "sleep 3600"].map(str::to_owned).into(),
        ..Default::default()
    };
    let container = cri.create_container(&sandbox, container, sandbox_config).await?;
    let created = begun.elapsed();
    cri.start_container(&container).await?;
    Ok((sandbox, [ran, created - ran, begun.elapsed() - created]))
}

async fn remove(cri: &Cri, sandbox: &str) -> Result<()> {
    cri.stop_sandbox(sandbox).await?;
    Ok(cri.remove_sandbox(sandbox).await?)
}
