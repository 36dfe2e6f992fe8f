//! The servers are restarted one after another under load: no request fails that its client tries again.

use kybern_e2e::{Kubectl, Namespace, eventually, run, within};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn dev(verb: &str, host: &str, cluster: &str) {
    let program = std::env::var("KYBERN").expect("KYBERN");
    let status = Command::new(program).args(["dev", verb, host, "--name", cluster]).status().expect("kybern dev");
    assert!(status.success(), "kybern dev {verb} {host}");
}

/// The servers' own addresses; the order does not matter.
fn servers() -> Vec<String> {
    let path = "jsonpath={range .endpoints[*]}{.addresses[0]} {end}";
    let addresses = run(&["get", "endpointslice", "kubernetes", "-o", path], None).expect("the API's own slice");
    addresses.split_whitespace().map(|a| format!("https://{a}:6443")).collect()
}

#[test]
fn no_request_fails_while_the_servers_are_restarted() {
    let (Ok(python), Ok(cluster)) = (std::env::var("KYBERN_PYTHON"), std::env::var("KYBERN_NAME")) else {
        eprintln!("skipped: it takes a dev cluster and the Python client");
        return;
    };
    let all = servers();
    let ns = Namespace::new("rolling");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python/load.py");
    let mut load = Command::new(python)
        .args([program, ns.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the load");
    let mut said = BufReader::new(load.stdout.take().expect("its output"));
    let mut first = String::new();
    said.read_line(&mut first).expect("it begins");
    assert_eq!(first, "running\n");
    let mut times = Vec::new();
    // The load goes on for a while before, between and after.
    let pause = || std::thread::sleep(Duration::from_secs(1));
    pause();
    for number in 1..=all.len() {
        let host = format!("server-{number}");
        let began = Instant::now();
        dev("stop", &host, &cluster);
        dev("start", &host, &cluster);
        // All of them, so that the next one does not take the quorum along.
        for server in &all {
            let client = Kubectl::new().with(&["--server", server]);
            within("every server is ready", Duration::from_secs(30), || client.run(&["get", "--raw", "/readyz"], None));
        }
        times.push(began.elapsed().as_secs_f64());
        pause();
    }
    drop(load.stdin.take());
    let mut last = String::new();
    said.read_to_string(&mut last).expect("its end");
    assert!(load.wait().expect("its end").success());
    let counted: Value = serde_json::from_str(last.trim()).expect("JSON");
    assert_eq!(counted["failures"], serde_json::json!([]));
    let requests = counted["requests"].as_u64().expect("a number");
    assert!(requests > 100, "{requests} requests are no load");
    let left = eventually("the namespace is as before", || ns.kubectl(&["get", "configmaps", "-o", "name"]));
    assert!(!left.contains("load-"), "{left}");
    eprintln!("{requests} requests, none failed; restarts took (s) {times:.2?}");
}
