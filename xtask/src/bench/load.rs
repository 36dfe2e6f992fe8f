//! Load over many connections: create, get, patch, list, watch.

use super::client::Api;
use super::{limits, row};
use anyhow::Result;
use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 64;
const WATCHERS: usize = 500;
const WATCHED: usize = 1_000;
const LISTED: usize = 10_000;
const PODS: &str = "/api/v1/namespaces/bench/pods";

/// Everything in order.
pub(crate) async fn run(api: &Api, length: Duration) -> Result<()> {
    let mut first = api.open(0).await?;
    for name in ["bench", "bench-watch"] {
        let body = format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}}}}"#);
        first.call("POST", "/api/v1/namespaces", "application/json", body.into()).await?;
    }
    let created = Arc::new(AtomicUsize::new(0));
    let made = created.clone();
    timed(api, "pod creates (2.9 KB, 64 clients)", ">= 3,000/s", length, move |_| {
        let i = made.fetch_add(1, Ordering::Relaxed);
        ("POST", PODS.into(), "application/json", pod(i))
    })
    .await?;
    let present = created.load(Ordering::Relaxed).saturating_sub(CLIENTS).max(1);
    timed(api, "pod gets (64 clients)", ">= 12,000/s", length, move |i| {
        ("GET", format!("{PODS}/p{}", i % present), "", Bytes::new())
    })
    .await?;
    timed(api, "merge-patches (64 clients)", ">= 3,000/s", length, move |i| {
        let patch = format!(r#"{{"metadata":{{"annotations":{{"bench":"{i}"}}}}}}"#);
        ("PATCH", format!("{PODS}/p{}", i % present), "application/merge-patch+json", patch.into())
    })
    .await?;
    fill(api, &created).await?;
    lists(api, length).await?;
    watches(api).await
}

type Call = (&'static str, String, &'static str, Bytes);

/// All clients repeat `make` for `length`; prints the rate and the latencies.
async fn timed<F>(api: &Api, what: &str, target: &str, length: Duration, make: F) -> Result<()>
where
    F: Fn(usize) -> Call + Clone + Send + 'static,
{
    let counter = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let clients = (0..CLIENTS).map(|c| {
        let (api, make, counter) = (api.clone(), make.clone(), counter.clone());
        tokio::spawn(async move {
            let mut connection = api.open(c).await?;
            let mut times = Vec::new();
            while begun.elapsed() < length {
                let (method, path, kind, body) = make(counter.fetch_add(1, Ordering::Relaxed));
                let sent = Instant::now();
                connection.call(method, &path, kind, body).await?;
                times.push(sent.elapsed());
            }
            anyhow::Ok(times)
        })
    });
    let mut times = Vec::new();
    for t in try_join_all(clients).await? {
        times.extend(t?);
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let ms = |q: f64| times.get((times.len() as f64 * q) as usize).map_or(0.0, |d| d.as_secs_f64() * 1e3);
    row(
        what,
        format!("{:.0}/s", times.len() as f64 / seconds),
        &format!("{target}   p50 {:.1} ms, p99 {:.1} ms", ms(0.5), ms(0.99)),
    );
    Ok(())
}

/// Adds pods until there are as many as the list figures are about.
async fn fill(api: &Api, created: &Arc<AtomicUsize>) -> Result<()> {
    let clients = (0..CLIENTS).map(|c| {
        let (api, created) = (api.clone(), created.clone());
        tokio::spawn(async move {
            let mut connection = api.open(c).await?;
            loop {
                let i = created.fetch_add(1, Ordering::Relaxed);
                if i >= LISTED {
                    return anyhow::Ok(());
                }
                connection.call("POST", PODS, "application/json", pod(i)).await?;
            }
        })
    });
    for done in try_join_all(clients).await? {
        done?;
    }
    Ok(())
}

async fn lists(api: &Api, length: Duration) -> Result<()> {
    let mut connection = api.open(0).await?;
    let (begun, mut n, mut bytes, mut first) = (Instant::now(), 0u32, 0usize, Duration::ZERO);
    while begun.elapsed() < length {
        let asked = Instant::now();
        let mut body = connection.begin("GET", PODS, "", Bytes::new()).await?;
        let (mut size, mut fresh) = (0, true);
        while let Some(frame) = body.frame().await {
            if std::mem::take(&mut fresh) {
                first += asked.elapsed();
            }
            size += frame?.data_ref().map_or(0, Bytes::len);
        }
        bytes = size;
        n += 1;
    }
    let rate = f64::from(n) / begun.elapsed().as_secs_f64();
    let first = first.as_secs_f64() * 1e3 / f64::from(n.max(1));
    row(
        &format!("lists of all pods ({:.1} MB), one client", bytes as f64 / 1e6),
        format!("{rate:.1}/s"),
        &format!(">= 15/s of 10,000; first byte {first:.1} ms"),
    );
    Ok(())
}

async fn watches(api: &Api) -> Result<()> {
    let path = "/api/v1/namespaces/bench-watch/configmaps";
    let (delivered, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let pieces = Arc::new(AtomicUsize::new(0));
    let ready = Arc::new(tokio::sync::Barrier::new(WATCHERS + 1));
    let mut watchers = Vec::with_capacity(WATCHERS);
    for i in 0..WATCHERS {
        let (api, delivered, ready) = (api.clone(), delivered.clone(), ready.clone());
        let (bytes, pieces) = (bytes.clone(), pieces.clone());
        watchers.push(tokio::spawn(async move {
            let mut connection = api.open(i).await?;
            let url = format!("{path}?watch=1&fieldSelector=metadata.name%21%3Dkube-root-ca.crt&resourceVersion=0");
            let mut body = connection.begin("GET", &url, "", Bytes::new()).await?;
            ready.wait().await;
            let mut mine = 0;
            while mine < WATCHED {
                let Some(frame) = body.frame().await else { break };
                let frame = frame?;
                let data = frame.data_ref().map_or(&[][..], |d| d);
                let lines = memchr::memchr_iter(b'\n', data).count();
                mine += lines;
                bytes.fetch_add(data.len(), Ordering::Relaxed);
                pieces.fetch_add(1, Ordering::Relaxed);
                delivered.fetch_add(lines, Ordering::Relaxed);
            }
            anyhow::Ok(mine)
        }));
    }
    ready.wait().await;
    let begun = Instant::now();
    let writers = (0..8).map(|w| {
        let api = api.clone();
        tokio::spawn(async move {
            let mut connection = api.open(w).await?;
            for i in (w..WATCHED).step_by(8) {
                connection.call("POST", path, "application/json", config_map(i)).await?;
            }
            anyhow::Ok(())
        })
    });
    for done in try_join_all(writers).await? {
        done?;
    }
    for w in watchers {
        w.await??;
    }
    let took = begun.elapsed().as_secs_f64();
    let events = delivered.load(Ordering::Relaxed).max(1);
    let rate = events as f64 / took;
    row("watch: 500 connections x 1,000 creates", format!("{rate:.0}/s"), ">= 300,000/s or 60 % of the limit");
    let (frame, pieces) = (bytes.load(Ordering::Relaxed) / events, pieces.load(Ordering::Relaxed).max(1));
    for (what, together) in
        [("of one event", 1), ("as here", events.div_ceil(pieces)), ("of 16 KB", (16 << 10) / frame)]
    {
        let limit = tokio::task::spawn_blocking(move || limits::deliveries(frame, together.max(1))).await??;
        let share = format!("{:.0} % reached", rate / limit * 100.0);
        row(&format!("  limit: frames of {frame} B, {together} in a write ({what})"), format!("{limit:.0}/s"), &share);
    }
    Ok(())
}

fn config_map(i: usize) -> Bytes {
    let data = "x".repeat(512);
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"c{i}"}},"data":{{"d":"{data}"}}}}"#).into()
}

/// A pod of about 2.9 KB once stored, which no scheduler takes.
fn pod(i: usize) -> Bytes {
    let env: Vec<String> =
        (0..12).map(|e| format!(r#"{{"name":"VARIABLE_{e}","value":"value-of-variable-{e}"}}"#)).collect();
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p{i}","labels":{{"app":"bench","tier":"load","index":"{i}"}},"annotations":{{"note":"{note}"}}}},
"spec":{{"schedulerName":"none","automountServiceAccountToken":false,"containers":[{{"name":"main","image":"kybern.local/web:1","args":["--flag-one=1","--flag-two=2"],
"ports":[{{"containerPort":8080,"name":"http"}}],"env":[{env}],"resources":{{"requests":{{"cpu":"10m","memory":"16Mi"}},"limits":{{"memory":"64Mi"}}}}}}]}}}}"#,
        note = "n".repeat(300),
        env = env.join(",")
    )
    .into()
}
