//! Pods on a real containerd, in the node's network: started, probed, restarted, ended, and gone
//! without a trace.

mod support;

use kybern_api::seam::{SystemClock, SystemIds};
use kybern_client::informer::Informer;
use kybern_client::transport::{Resource, Selection, Transport};
use kybern_client::write::Writer;
use kybern_node_agent::cgroup::Cgroups;
use kybern_node_agent::config::{Config, Paths};
use kybern_node_agent::events::Recorder;
use kybern_node_agent::images::credentials::Keyring;
use kybern_node_agent::images::pull::Puller;
use kybern_node_agent::node::capacity::Capacity;
use kybern_node_agent::pods::admit::Abilities;
use kybern_node_agent::pods::find::{Containers, RuntimeContainers};
use kybern_node_agent::pods::{Command, Pods, Shared, security};
use kybern_node_agent::references::References;
use kybern_node_agent::runtime::Runtime;
use kybern_node_agent::runtime::containerd::Containerd;
use kybern_node_agent::volumes::token::Tokens;
use serde_json::{Value, json};
use std::sync::Arc;
use support::api::Api;
use support::{BUSYBOX, import_busybox, on_a_node};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The part of an agent that runs pods.
struct Node {
    runtime: Arc<dyn Runtime>,
    paths: Paths,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    orders: mpsc::Sender<Command>,
}

async fn start(paths: &Paths, cgroup: &str, api: Api) -> Node {
    let mut containerd = Containerd::start(paths).await.expect("containerd");
    containerd.ensure_pause_image().await.expect("pause image");
    import_busybox(&containerd, paths.data()).await;
    let cancel = CancellationToken::new();
    let runtime: Arc<dyn Runtime> = Arc::new(containerd.cri());
    let transport: Arc<dyn Transport> = Arc::new(api);
    let writer = Writer::new(transport.clone(), "kubelet", 0);
    let clock = Arc::new(SystemClock::default());
    let mut config = Config::new("n1", paths.data(), paths.state(), [127, 0, 0, 1].into());
    config.cgroup_root = cgroup.into();
    let informer = |plural: &str| {
        let resource = Resource::new("", "v1", plural);
        Informer::start(transport.clone(), resource, Selection::default(), None, cancel.clone())
    };
    let (changes, changed) = mpsc::channel(64);
    let (orders, commands) = mpsc::channel(4);
    let shared = Shared {
        paths: paths.clone(),
        puller: Arc::new(Puller::new(runtime.clone(), clock.clone(), Keyring::default())),
        cgroups: Cgroups::new(cgroup),
        references: References::new(transport.clone(), cancel.clone()),
        tokens: Tokens::new(writer.clone()),
        events: Recorder::start(writer.clone(), "n1", clock.clone(), Arc::new(SystemIds)),
        writer,
        runtime: runtime.clone(),
        clock,
        services: informer("services"),
        mine: informer("pods"),
        capacity: Capacity::probe(paths.data()),
        allocatable: (4000, 4 << 30),
        abilities: Abilities::default(),
        seccomp: security::seccomp_supported(),
        network_ready: watch::channel(true).1,
        pods: Resource::new("", "v1", "pods"),
        known: Default::default(),
        config,
    };
    let pods = tokio::spawn(Pods::new(Arc::new(shared)).run(changed, commands, cancel.clone()));
    let supervisor = tokio::spawn({
        let cancel = cancel.clone();
        async move { containerd.supervise(changes, cancel).await }
    });
    Node { runtime, paths: paths.clone(), cancel, tasks: vec![pods, supervisor], orders }
}

impl Node {
    /// Ends the agent's tasks, as its death would; containerd and containers stay.
    async fn stop(self) {
        self.cancel.cancel();
        for task in self.tasks {
            task.await.expect("a task ended in order");
        }
    }
    async fn exec(&self, pod: &str, script: &str) -> String {
        let containers = RuntimeContainers::new(self.runtime.clone(), self.paths.clone());
        let c = containers.find("default", pod, "", "main", false).await.expect("container");
        let command = ["/bin/busybox", "sh", "-c", script].map(str::to_owned);
        let answer = self.runtime.exec_sync(&c.id, &command, std::time::Duration::from_secs(10)).await.expect("exec");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }
}

fn pod(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["hostNetwork"] = true.into();
    spec["nodeName"] = "n1".into();
    json!({ "metadata": { "name": name, "namespace": "default" }, "spec": spec, "status": { "phase": "Pending" } })
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

#[test]
fn a_pod_lives_survives_the_agent_and_goes() {
    on_a_node("pod", |paths, cgroup| async move {
        let api = Api::new();
        api.put("configmaps", json!({ "metadata": { "name": "cm", "namespace": "default" }, "data": { "k": "v1" } }));
        api.put("secrets", json!({ "metadata": { "name": "s", "namespace": "default" }, "data": { "p": "cHc=" } }));
        let node = start(&paths, &cgroup, api.clone()).await;
        let sleep =
            "trap 'echo bye > /dev/termination-log; exit 3' TERM; echo up; while true; do /bin/busybox sleep 0.1; done";
        api.put(
            "pods",
            pod("p", json!({
                "terminationGracePeriodSeconds": 20,
                "volumes": [
                    { "name": "cfg", "configMap": { "name": "cm" } },
                    { "name": "sec", "secret": { "secretName": "s" } },
                    { "name": "tmp", "emptyDir": {} },
                    { "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } },
                ],
                "initContainers": [{
                    "name": "init", "image": BUSYBOX, "volumeMounts": [{ "name": "tmp", "mountPath": "/work" }],
                    "command": ["/bin/busybox", "sh", "-c", "echo from-init > /work/f"],
                }],
                "containers": [{
                    "name": "main", "image": BUSYBOX, "command": ["/bin/busybox", "sh", "-c", sleep],
                    "env": [{ "name": "K", "valueFrom": { "configMapKeyRef": { "name": "cm", "key": "k" } } }, { "name": "T", "value": "<$(K)>" }],
                    "volumeMounts": [
                        { "name": "cfg", "mountPath": "/cfg" }, { "name": "sec", "mountPath": "/sec" },
                        { "name": "tmp", "mountPath": "/work" }, { "name": "token", "mountPath": "/token" },
                    ],
                    "readinessProbe": { "exec": { "command": ["/bin/busybox", "test", "-f", "/work/f"] }, "periodSeconds": 1 },
                    "resources": { "limits": { "memory": "64Mi", "cpu": "500m" } },
                }],
            })),
        );
        let ready = api.until("pods", "default", "p", is_ready).await;
        assert_eq!(ready["status"]["phase"], "Running");
        assert_eq!(ready["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
        assert_eq!(ready["status"]["podIP"], "127.0.0.1");
        let seen = node.exec("p", "echo $T; cat /cfg/k /sec/p /work/f /token/token").await;
        assert_eq!(seen, "<v1>\nv1pwfrom-init\na.b.c");
        let memory = format!("/sys/fs/cgroup/memory{cgroup}/kubepods");
        assert!(std::path::Path::new(&memory).exists() || !std::path::Path::new("/sys/fs/cgroup/memory").exists());

        // A changed ConfigMap reaches the file while the container runs.
        api.put("configmaps", json!({ "metadata": { "name": "cm", "namespace": "default" }, "data": { "k": "v2" } }));
        let file = paths.pod(ready["metadata"]["uid"].as_str().expect("uid")).join("volumes/cfg/k");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
        while std::fs::read_to_string(&file).expect("file") != "v2" {
            assert!(tokio::time::Instant::now() < deadline, "the file was not updated");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }

        // The agent goes and comes: the same container runs on.
        let id = ready["status"]["containerStatuses"][0]["containerID"].clone();
        node.stop().await;
        let node = start(&paths, &cgroup, api.clone()).await;
        api.put("configmaps", json!({ "metadata": { "name": "cm", "namespace": "default" }, "data": { "k": "v3" } }));
        let after = api.until("pods", "default", "p", is_ready).await;
        assert_eq!(after["status"]["containerStatuses"][0]["containerID"], id);
        assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);

        api.delete_pod("default", "p", 20);
        let last = Arc::new(parking_lot::Mutex::new(Value::Null));
        api.until("pods", "default", "p", |p| {
            if !p.is_null() {
                *last.lock() = p.clone();
            }
            p.is_null()
        })
        .await;
        let ended = last.lock()["status"]["containerStatuses"][0]["state"]["terminated"].clone();
        assert_eq!(
            (&ended["exitCode"], &ended["message"]),
            (&json!(3), &json!("bye\n")),
            "ended by SIGTERM, with its last words"
        );
        assert_eq!(std::fs::read_dir(paths.pods()).expect("pods").count(), 0, "no directory left");
        assert_eq!(std::fs::read_dir(paths.logs()).expect("logs").count(), 0, "no log left");
        assert!(node.runtime.sandboxes(None).await.expect("list").is_empty());
        node.stop().await;
    });
}

#[test]
fn ends_restarts_and_bad_pods() {
    on_a_node("ends", |paths, cgroup| async move {
        let api = Api::new();
        let node = start(&paths, &cgroup, api.clone()).await;
        let run = |script: &str| json!([{ "name": "main", "image": BUSYBOX, "command": ["/bin/busybox", "sh", "-c", script] }]);
        api.put("pods", pod("done", json!({ "restartPolicy": "Never", "containers": run("exit 0") })));
        api.put("pods", pod("failed", json!({ "restartPolicy": "Never", "containers": run("exit 7") })));
        api.put("pods", pod("loop", json!({ "restartPolicy": "Always", "containers": run("exit 1") })));
        api.put("pods", pod("nocm", json!({ "containers": [{ "name": "main", "image": BUSYBOX, "envFrom": [{ "configMapRef": { "name": "gone" } }] }] })));
        api.put(
            "pods",
            pod(
                "never",
                json!({ "containers": [{ "name": "main", "image": "test.local/none:1", "imagePullPolicy": "Never" }] }),
            ),
        );
        api.put("pods", pod("nfs", json!({ "volumes": [{ "name": "v", "nfs": { "server": "x", "path": "/" } }], "containers": run("exit 0") })));
        let state = |p: &Value| p["status"]["containerStatuses"][0]["state"].clone();
        let waits = |p: &Value, reason: &str| state(p)["waiting"]["reason"] == reason;

        api.until("pods", "default", "done", |p| p["status"]["phase"] == "Succeeded").await;
        let failed = api.until("pods", "default", "failed", |p| p["status"]["phase"] == "Failed").await;
        assert_eq!(
            (&state(&failed)["terminated"]["exitCode"], &state(&failed)["terminated"]["reason"]),
            (&json!(7), &json!("Error"))
        );
        let looping = api.until("pods", "default", "loop", |p| waits(p, "CrashLoopBackOff")).await;
        assert_eq!(looping["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
        let nocm = api.until("pods", "default", "nocm", |p| waits(p, "CreateContainerConfigError")).await;
        assert_eq!(state(&nocm)["waiting"]["message"], "configmap \"gone\" not found");
        api.until("pods", "default", "never", |p| waits(p, "ErrImageNeverPull")).await;
        let nfs = api.until("pods", "default", "nfs", |p| p["status"]["phase"] == "Failed").await;
        assert_eq!(nfs["status"]["reason"], "UnsupportedVolume");

        // A ConfigMap that comes later is picked up at once, not at the next try.
        api.put("configmaps", json!({ "metadata": { "name": "gone", "namespace": "default" }, "data": {} }));
        for name in ["done", "failed", "loop", "nocm", "never", "nfs"] {
            api.delete_pod("default", name, 0);
            api.until("pods", "default", name, Value::is_null).await;
        }
        node.stop().await;
    });
}
