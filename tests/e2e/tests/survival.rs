//! The leader is killed ten times while objects are created: nothing acknowledged is lost, watches go on
//! without a gap, a rollout in progress goes on.

use kybern_e2e::{Namespace, ensure, eventually, kubectl_program, output, run, web, within};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const KILLS: usize = 10;
const WRITERS: usize = 3;

/// Runs `kybern dev VERB HOST` on the cluster under test.
fn dev(verb: &str, host: &str) {
    let program = std::env::var("KYBERN").expect("KYBERN");
    let name = std::env::var("KYBERN_NAME").expect("KYBERN_NAME");
    let status = Command::new(program).args(["dev", verb, host, "--name", &name]).status().expect("kybern dev");
    assert!(status.success(), "kybern dev {verb} {host}");
}

/// The server that leads: its controllers hold this Lease.
fn leader() -> anyhow::Result<String> {
    let args =
        ["get", "lease", "-n", "kube-system", "kube-controller-manager", "-o", "jsonpath={.spec.holderIdentity}"];
    let holder = run(&args, None)?;
    let host = holder.split('_').next().unwrap_or_default().to_owned();
    ensure(!host.is_empty(), || "no leader is known".into())?;
    Ok(host)
}

/// Creates objects by name until told to stop; remembers those that were acknowledged.
fn create_objects(namespace: &str, writer: usize, stop: &AtomicBool, acked: &Mutex<Vec<String>>, count: &AtomicU64) {
    for i in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("w{writer}-{i}");
        let args = ["-n", namespace, "create", "configmap", &name, "--request-timeout=10s"];
        if output(&args, None).is_ok_and(|o| o.status.success()) {
            acked.lock().unwrap().push(name);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Follows the objects over all interruptions, always from the last revision seen. Name to revision.
fn follow(namespace: &str, from: u64, stop: &AtomicBool) -> BTreeMap<String, u64> {
    let (mut seen, mut last) = (BTreeMap::new(), from);
    while !stop.load(Ordering::Relaxed) {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps?watch=1&timeoutSeconds=5&resourceVersion={last}");
        let child = Command::new(kubectl_program())
            .args(["get", "--raw", &path])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.expect("kubectl");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        for line in lines.map_while(Result::ok) {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { break };
            assert_eq!(event["type"], "ADDED", "only creations happen here: {event}");
            let meta = &event["object"]["metadata"];
            let revision: u64 = meta["resourceVersion"].as_str().unwrap().parse().unwrap();
            assert!(revision > last, "revisions rise: {revision} after {last}");
            last = revision;
            let name = meta["name"].as_str().unwrap().to_owned();
            assert!(seen.insert(name.clone(), revision).is_none(), "{name} came twice");
        }
        let _ = child.wait();
    }
    seen
}

#[test]
fn nothing_acknowledged_is_lost_while_leaders_are_killed() {
    if std::env::var("KYBERN").is_err() {
        eprintln!("skipped: faults need a dev cluster (KYBERN is not set)");
        return;
    }
    let ns = Namespace::new("survival");
    // kube-root-ca.crt comes by itself; the watch begins after it.
    eventually("the namespace is complete", || ns.kubectl(&["get", "configmap", "kube-root-ca.crt"]));
    let list = ns.kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{}/configmaps", ns.name())]).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let from: u64 = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let end_watch = Arc::new(AtomicBool::new(false));
    let acked = Arc::new(Mutex::new(Vec::new()));
    let count = Arc::new(AtomicU64::new(0));
    let watcher = {
        let (namespace, end) = (ns.name().to_owned(), end_watch.clone());
        std::thread::spawn(move || follow(&namespace, from, &end))
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|w| {
            let (namespace, stop, acked, count) = (ns.name().to_owned(), stop.clone(), acked.clone(), count.clone());
            std::thread::spawn(move || create_objects(&namespace, w, &stop, &acked, &count))
        })
        .collect();

    ns.apply(&web("web", 2));
    let mut outages = Vec::new();
    for round in 0..KILLS {
        let victim = eventually("a leader", leader);
        ns.kubectl(&["set", "env", "deployment/web", &format!("ROUND={round}")]).ok();
        let before = count.load(Ordering::Relaxed);
        let killed = Instant::now();
        dev("kill", &victim);
        within("writes resume", Duration::from_secs(20), || {
            ensure(count.load(Ordering::Relaxed) > before + WRITERS as u64, || "no write yet".into())
        });
        outages.push(killed.elapsed().as_secs_f64());
        eventually("the killed server is back", || run(&["get", "--raw", "/readyz"], None));
        within("another leads, or the same again", Duration::from_secs(20), leader);
    }
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]).unwrap();

    stop.store(true, Ordering::Relaxed);
    for w in writers {
        w.join().unwrap();
    }
    let acked = acked.lock().unwrap().clone();
    let names = ns.kubectl(&["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"]).unwrap();
    let stored: Vec<&str> = names.split(' ').collect();
    let lost: Vec<&String> = acked.iter().filter(|n| !stored.contains(&n.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");

    std::thread::sleep(Duration::from_secs(6)); // one more turn of the watch
    end_watch.store(true, Ordering::Relaxed);
    let seen = watcher.join().unwrap();
    let missed: Vec<&&str> = stored.iter().filter(|n| n.starts_with('w') && !seen.contains_key(**n)).collect();
    assert!(missed.is_empty(), "stored, but the watch never told: {missed:?}");
    eprintln!("{} objects acknowledged; writes resumed after (s) {outages:.2?}", acked.len());
}
