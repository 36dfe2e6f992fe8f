//! Certificates and CAs are replaced in a running cluster while it is used: not one request fails.
//!
//! Alone in its file: it replaces what other tests hold in their hands.

use kybern_e2e::{Kubectl, Namespace, Scratch, ensure, eventually, output, run, shell};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The cluster under test, where it is one whose keys this machine holds.
struct Cluster {
    program: String,
    name: String,
    kubeconfig: String,
}

impl Cluster {
    fn found() -> Option<Self> {
        let var = |name| std::env::var(name).ok();
        Some(Self { program: var("KYBERN")?, name: var("KYBERN_NAME")?, kubeconfig: var("KUBECONFIG")? })
    }

    fn data(&self, host: &str) -> String {
        format!("/var/lib/kybern/dev/{}/{host}", self.name)
    }

    /// `kybern certificate ARGS`; what it said.
    fn certificate(&self, args: &[&str]) -> String {
        let data = self.data("server-1");
        let mut command = Command::new(&self.program);
        command.args(["certificate"]).args(args).args(["--data-dir", &data, "--kubeconfig", &self.kubeconfig]);
        let out = command.output().expect("kybern");
        let said = [out.stdout, out.stderr].map(|s| String::from_utf8_lossy(&s).into_owned()).concat();
        assert!(out.status.success(), "kybern certificate {args:?}: {said}");
        said
    }

    fn kill(&self, host: &str) {
        let killed = Command::new(&self.program).args(["dev", "kill", host, "--name", &self.name]).status();
        assert!(killed.expect("kybern dev").success());
    }

    /// A server's CA as its host keeps it.
    fn ca(&self, host: &str, domain: &str) -> String {
        std::fs::read_to_string(format!("{}/server/tls/{domain}-ca.crt", self.data(host))).expect("a CA")
    }

    fn node_certificate(&self) -> String {
        std::fs::read_to_string(format!("{}/pki/node.pem", self.data("node-1"))).expect("a node's certificate")
    }
}

/// Requests of every kind, over and over: reads, writes, and through a node.
fn load(ns: &Namespace, worker: usize, stop: &AtomicBool, done: &AtomicU64, failed: &Mutex<Vec<String>>) {
    let map = format!("w{worker}");
    let calls: [&[&str]; 4] = [
        &["get", "pods"],
        &["create", "configmap", &map],
        &["delete", "configmap", &map],
        &["exec", "client", "--", "true"],
    ];
    while !stop.load(Ordering::Relaxed) {
        for call in calls {
            match ns.kubectl(call) {
                Ok(_) => _ = done.fetch_add(1, Ordering::Relaxed),
                Err(e) => failed.lock().expect("failures").push(format!("{e:#}")),
            }
        }
    }
}

/// Does `work` while the cluster is used, and counts.
fn under_load(ns: &Namespace, what: &str, work: impl FnOnce()) {
    let (stop, done, failed) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|threads| {
        for worker in 0..2 {
            let (stop, done, failed) = (&stop, &done, &failed);
            threads.spawn(move || load(ns, worker, stop, done, failed));
        }
        // An assertion must not leave the load running.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        worked.unwrap_or_else(|e| std::panic::resume_unwind(e));
    });
    let (done, failed) = (done.into_inner(), failed.into_inner().expect("failures"));
    println!("{what}: {done} requests, {} failed", failed.len());
    assert!(done >= 8 && failed.is_empty(), "{what}: {done} requests, failed: {failed:#?}");
}

fn pods_ca(ns: &Namespace) -> String {
    ns.say(&["exec", "client", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"])
}

#[test]
fn every_certificate_and_every_ca_is_replaced_while_the_cluster_is_used() {
    let Some(cluster) = Cluster::found() else {
        eprintln!("skipped: KYBERN is not set");
        return;
    };
    let (ns, dir) = (Namespace::new("rotation"), Scratch::new("rotation"));
    ns.apply(&shell("client", "sleep 3600"));
    ns.ready("client");
    let old_config = dir.file("old");
    std::fs::copy(&cluster.kubeconfig, &old_config).expect("a copy");
    let old = Kubectl::new().with(&["--kubeconfig", &old_config]);
    let (server_ca, node) = (cluster.ca("server-1", "server"), cluster.node_certificate());

    under_load(&ns, "rotate", || assert!(cluster.certificate(&["rotate"]).contains("done")));
    assert_ne!(cluster.node_certificate(), node, "the node has a new certificate");
    assert_eq!(cluster.ca("server-1", "server"), server_ca, "of the same CA");
    old.run(&["get", "ns"], None).expect("users' certificates are left alone");

    under_load(&ns, "rotate-ca", || assert!(cluster.certificate(&["rotate-ca", "--pause", "3s"]).contains("done")));
    for domain in ["client", "server", "peer"] {
        let present = cluster.ca("server-1", domain);
        assert_eq!(present.matches("BEGIN CERTIFICATE").count(), 1, "{domain}: the old one is gone");
        let others = ["server-2", "server-3"].map(|s| std::path::Path::new(&cluster.data(s)).exists().then_some(s));
        for host in others.into_iter().flatten() {
            assert_eq!(cluster.ca(host, domain), present, "{domain} on {host}");
        }
    }
    let present = cluster.ca("server-1", "server");
    assert_ne!(present, server_ca);
    eventually("pods have the new CA", || {
        let seen = pods_ca(&ns);
        ensure(seen.trim() == present.trim(), || seen)
    });
    let refused = format!("{:#}", old.run(&["get", "ns"], None).expect_err("a kubeconfig of the old CAs"));
    assert!(refused.contains("certificate"), "{refused}");
    let refused =
        output(&["--kubeconfig", &old_config, "--insecure-skip-tls-verify", "get", "ns"], None).expect("kubectl");
    assert!(!refused.status.success(), "the old client CA vouches for nobody");

    // What starts anew starts with what it has: tokens and CAs of former times included.
    for host in ["server-1", "node-1"] {
        cluster.kill(host);
        eventually("the host is back", || {
            run(&["wait", "node", "--all", "--for=condition=Ready", "--timeout=5s"], None)
        });
        eventually("and of use", || ns.kubectl(&["exec", "client", "--", "true"]));
    }
    let listed = cluster.certificate(&["rotate"]);
    assert!(listed.contains("done"), "and again: {listed}");
}
