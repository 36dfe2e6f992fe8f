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
use kybern_node_agent::pods::sources::Sources;
use kybern_node_agent::pods::status::Ending;
use kybern_node_agent::pods::{Command, Pods, Shared, security};
use kybern_node_agent::references::References;
use kybern_node_agent::runtime::Runtime;
use kybern_node_agent::runtime::containerd::{Containerd, Tell};
use kybern_node_agent::runtime::events::TaskChanged;
use kybern_node_agent::runtime::fake::Fake;
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
    let (changes, changed) = mpsc::channel(64);
    let mut node = run(paths, cgroup, api, Arc::new(containerd.cri()), Abilities::default(), changed);
    let (tell, cancel) = (Tell { changes, images: Arc::default() }, node.cancel.clone());
    node.tasks.push(tokio::spawn(async move { containerd.supervise(tell, cancel).await }));
    node
}

/// The same over any runtime.
fn run(
    paths: &Paths,
    cgroup: &str,
    api: Api,
    runtime: Arc<dyn Runtime>,
    abilities: Abilities,
    changed: mpsc::Receiver<TaskChanged>,
) -> Node {
    let cancel = CancellationToken::new();
    let transport: Arc<dyn Transport> = Arc::new(api);
    let writer = Writer::new(transport.clone(), "kubelet", 0);
    let clock = Arc::new(SystemClock::default());
    let mut config = Config::new("n1", paths.data(), paths.state(), [127, 0, 0, 1].into());
    config.cgroup_root = cgroup.into();
    let informer = |plural: &str| {
        let resource = Resource::new("", "v1", plural);
        Informer::start(transport.clone(), resource, Selection::default(), None, cancel.clone())
    };
    let (orders, commands) = mpsc::channel(4);
    let statics = Sources::new(&config.manifests, "n1", clock.clone()).start(cancel.clone());
    let shared = Shared {
        paths: paths.clone(),
        puller: Arc::new(Puller::new(runtime.clone(), clock.clone(), Keyring::default())),
        cgroups: Cgroups::new(cgroup),
        references: References::new(transport.clone(), None, cancel.clone()),
        tokens: Tokens::new(writer.clone()),
        events: Recorder::start(writer.clone(), "n1", clock.clone(), Arc::new(SystemIds)),
        writer,
        runtime: runtime.clone(),
        clock,
        services: informer("services"),
        mine: informer("pods"),
        capacity: Capacity::probe(paths.data()),
        allocatable: Capacity { cpu_milli: 4000, memory: 4 << 30, disk: 4 << 30, ..Default::default() },
        nodes: informer("nodes"),
        huge: Vec::new(),
        orders: orders.clone(),
        ledger: Default::default(),
        left: Default::default(),
        offline: None,
        abilities,
        seccomp: security::seccomp_supported(),
        network_ready: watch::channel(true).1,
        leaving: watch::channel(false).1,
        pressures: watch::channel(Vec::new()).1,
        pods: Resource::new("", "v1", "pods"),
        node_uid: watch::channel(Some("node-uid".to_owned())).1,
        mirrors: Default::default(),
        known: Default::default(),
        config,
    };
    let pods = tokio::spawn(Pods::new(Arc::new(shared)).run(statics, changed, commands, cancel.clone()));
    Node { runtime, paths: paths.clone(), cancel, tasks: vec![pods], orders }
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
fn static_pods_run_without_the_api_and_show_in_it() {
    on_a_node("static", |paths, cgroup| async move {
        let api = Api::new();
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
            "spec": { "hostNetwork": true, "terminationGracePeriodSeconds": 1, "containers": [
                { "name": "main", "image": BUSYBOX, "command": ["/bin/busybox", "sh", "-c", "trap exit TERM; while true; do /bin/busybox sleep 0.1; done"] }] },
        });
        let dir = paths.data().join("pod-manifests");
        std::fs::create_dir_all(&dir).expect("manifests");
        std::fs::write(dir.join("web.json"), manifest.to_string()).expect("manifest");
        let node = start(&paths, &cgroup, api.clone()).await;
        let shown = api.until("pods", "default", "web-n1", is_ready).await;
        assert_eq!(shown["metadata"]["ownerReferences"][0]["uid"], "node-uid");
        let id = shown["status"]["containerStatuses"][0]["containerID"].clone();

        // Deleting the mirror does nothing to the pod: another one shows it.
        let first = shown["metadata"]["uid"].clone();
        api.delete_pod("default", "web-n1", 0);
        let again = api.until("pods", "default", "web-n1", |p| is_ready(p) && p["metadata"]["uid"] != first).await;
        assert_eq!(again["status"]["containerStatuses"][0]["containerID"], id);

        // The agent goes and comes: the same container runs on.
        node.stop().await;
        let node = start(&paths, &cgroup, api.clone()).await;
        let after = api.until("pods", "default", "web-n1", is_ready).await;
        assert_eq!(after["status"]["containerStatuses"][0]["containerID"], id);

        std::fs::remove_file(dir.join("web.json")).expect("remove");
        api.until("pods", "default", "web-n1", Value::is_null).await;
        // An agent that has only just begun may never have seen the manifest: it finds an orphan.
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while !node.runtime.sandboxes(None).await.expect("list").is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "the sandbox stays");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        node.stop().await;
    });
}

#[test]
fn a_pod_that_is_told_to_end_fails_with_the_reason() {
    on_a_node("ordered", |paths, cgroup| async move {
        let api = Api::new();
        let node = start(&paths, &cgroup, api.clone()).await;
        let sleep = "while true; do /bin/busybox sleep 0.1; done";
        let run = json!([{ "name": "main", "image": BUSYBOX, "command": ["/bin/busybox", "sh", "-c", sleep] }]);
        api.put("pods", pod("p", json!({ "terminationGracePeriodSeconds": 60, "containers": run })));
        let ready = api.until("pods", "default", "p", is_ready).await;
        let uid = ready["metadata"]["uid"].as_str().expect("uid").to_owned();
        let ending = Ending { reason: "Evicted".into(), message: "low".into(), grace: Some(1), disruption: true };
        node.orders.send(Command::End { uid, ending }).await.expect("order");
        let ended = api.until("pods", "default", "p", |p| p["status"]["phase"] == "Failed").await;
        assert_eq!((&ended["status"]["reason"], &ended["status"]["message"]), (&json!("Evicted"), &json!("low")));
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
        api.put("pods", pod("iscsi", json!({ "volumes": [{ "name": "v", "iscsi": { "targetPortal": "x", "iqn": "y", "lun": 0 } }], "containers": run("exit 0") })));
        let mut greedy = run("exit 0");
        greedy[0]["resources"] = json!({ "requests": { "cpu": "5" } });
        api.put("pods", pod("greedy", json!({ "containers": greedy })));
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
        let iscsi = api.until("pods", "default", "iscsi", |p| p["status"]["phase"] == "Failed").await;
        assert_eq!(iscsi["status"]["reason"], "UnsupportedVolume");
        let greedy = api.until("pods", "default", "greedy", |p| p["status"]["phase"] == "Failed").await;
        assert_eq!(greedy["status"]["reason"], "OutOfcpu");
        let why = greedy["status"]["message"].as_str().unwrap_or_default();
        let expected = "Pod was rejected: Node didn't have enough resource: cpu, requested: 5000, used: ";
        assert!(why.starts_with(expected) && why.ends_with(", capacity: 4000"), "{why}");

        // A ConfigMap that comes later is picked up at once, not at the next try.
        api.put("configmaps", json!({ "metadata": { "name": "gone", "namespace": "default" }, "data": {} }));
        for name in ["done", "failed", "loop", "nocm", "never", "iscsi", "greedy"] {
            api.delete_pod("default", name, 0);
            api.until("pods", "default", name, Value::is_null).await;
        }
        node.stop().await;
    });
}

const LOOP: &str = "trap 'exit 0' TERM; while true; do /bin/busybox sleep 0.1; done";

fn container(name: &str, script: &str, more: Value) -> Value {
    let mut c = json!({ "name": name, "image": BUSYBOX, "command": ["/bin/busybox", "sh", "-c", script] });
    let (into, from) = (c.as_object_mut().expect("object"), more.as_object().expect("object"));
    into.extend(from.clone());
    c
}

#[test]
fn sidecars_debugging_and_resize() {
    on_a_node("roles", |paths, cgroup| async move {
        let api = Api::new();
        let node = start(&paths, &cgroup, api.clone()).await;
        let says = |name: &str| {
            format!("trap 'echo {name} >> /log/ends; exit 0' TERM; while true; do /bin/busybox sleep 0.1; done")
        };
        let log = json!({ "volumeMounts": [{ "name": "log", "mountPath": "/log" }] });
        let side = json!({ "restartPolicy": "Always", "volumeMounts": log["volumeMounts"],
            "startupProbe": { "exec": { "command": ["/bin/busybox", "true"] }, "periodSeconds": 1 } });
        let ends = paths.data().join("ends");
        let main = json!({ "volumeMounts": log["volumeMounts"], "resources": { "requests": { "cpu": "100m" } } });
        let mut wanted = pod(
            "p",
            json!({
                "terminationGracePeriodSeconds": 20,
                "volumes": [{ "name": "log", "hostPath": { "path": ends, "type": "DirectoryOrCreate" } }],
                "initContainers": [container("first", &says("first"), side.clone()), container("second", &says("second"), side)],
                "containers": [container("main", &says("main"), main)],
            }),
        );
        wanted["metadata"]["generation"] = 1.into();
        api.put("pods", wanted);
        let ready = api.until("pods", "default", "p", is_ready).await;
        let started = &ready["status"]["initContainerStatuses"];
        assert_eq!((&started[0]["started"], &started[1]["ready"]), (&json!(true), &json!(true)));
        assert_eq!(ready["status"]["containerStatuses"][0]["resources"]["requests"]["cpu"], "100m");

        // Another container looks at the main one's processes; the main one gets more CPU meanwhile.
        let mut changed = ready.clone();
        let look = "/bin/busybox ps | /bin/busybox grep -c '[m]ain >> /log/ends'";
        changed["spec"]["ephemeralContainers"] =
            json!([container("look", look, json!({ "targetContainerName": "main" }))]);
        changed["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "200m".into();
        changed["metadata"]["generation"] = 2.into();
        api.put("pods", changed);
        let looked = api
            .until("pods", "default", "p", |p| {
                p["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"].is_object()
            })
            .await;
        assert_eq!(looked["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
        let resized = api
            .until("pods", "default", "p", |p| {
                p["status"]["containerStatuses"][0]["resources"]["requests"]["cpu"] == "200m"
            })
            .await;
        assert_eq!(
            resized["status"]["containerStatuses"][0]["containerID"],
            ready["status"]["containerStatuses"][0]["containerID"]
        );
        assert_eq!(resized["status"]["observedGeneration"], 2);

        api.delete_pod("default", "p", 20);
        api.until("pods", "default", "p", Value::is_null).await;
        assert_eq!(std::fs::read_to_string(ends.join("ends")).expect("ends"), "main\nsecond\nfirst\n");
        node.stop().await;
    });
}

#[test]
fn probes_hooks_and_confinement() {
    on_a_node("probes", |paths, cgroup| async move {
        let api = Api::new();
        let node = start(&paths, &cgroup, api.clone()).await;
        let failing = json!({ "livenessProbe": { "exec": { "command": ["/bin/busybox", "false"] }, "periodSeconds": 1,
            "failureThreshold": 1, "terminationGracePeriodSeconds": 1 } });
        let deaf = "trap '' TERM; while true; do /bin/busybox sleep 0.1; done";
        api.put(
            "pods",
            pod(
                "live",
                json!({ "terminationGracePeriodSeconds": 600, "containers": [container("main", deaf, failing)] }),
            ),
        );
        let hook = json!({ "lifecycle": { "postStart": { "exec": { "command": ["/bin/busybox", "sleep", "2"] } } } });
        api.put(
            "pods",
            pod(
                "hooked",
                json!({ "containers": [container("main", LOOP, hook), container("second", LOOP, json!({}))] }),
            ),
        );
        let confined = json!({ "securityContext": { "runAsUser": 1234, "capabilities": { "drop": ["ALL"] }, "allowPrivilegeEscalation": false } });
        api.put("pods", pod("confined", json!({ "containers": [container("main", LOOP, confined)] })));
        api.put("pods", pod("root", json!({ "containers": [container("main", LOOP, json!({ "securityContext": { "runAsNonRoot": true } }))] })));
        api.put("pods", pod("sysctl", json!({ "securityContext": { "sysctls": [{ "name": "kernel.panic", "value": "1" }] }, "containers": [container("main", LOOP, json!({}))] })));

        api.until("pods", "default", "live", |p| {
            p["status"]["containerStatuses"][0]["restartCount"].as_i64() > Some(0)
        })
        .await;
        let hooked = api.until("pods", "default", "hooked", is_ready).await;
        let began = |n: usize| {
            hooked["status"]["containerStatuses"][n]["state"]["running"]["startedAt"].as_str().map(str::to_owned)
        };
        assert!(began(0) < began(1), "the second waits for the first one's hook: {}", hooked["status"]);
        api.until("pods", "default", "confined", is_ready).await;
        let status = node.exec("confined", "/bin/busybox cat /proc/self/status").await;
        for line in ["Uid:\t1234", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "Seccomp:\t2"] {
            assert!(status.contains(line), "{line} in {status}");
        }
        let why = |p: &Value| {
            p["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned()
        };
        api.until("pods", "default", "root", |p| {
            why(p).starts_with("container has runAsNonRoot and image will run as root (pod:")
        })
        .await;
        let refused = api.until("pods", "default", "sysctl", |p| p["status"]["phase"] == "Failed").await;
        assert_eq!(
            refused["status"]["message"],
            "Pod was rejected: forbidden sysctl: \"kernel.panic\" not allowlisted"
        );
        for name in ["live", "hooked", "confined", "root", "sysctl"] {
            api.delete_pod("default", name, 0);
            api.until("pods", "default", name, Value::is_null).await;
        }
        node.stop().await;
    });
}

#[test]
fn image_volumes_and_stop_signals_are_left_to_the_runtime() {
    on_a_node("fake", |paths, cgroup| async move {
        let (api, fake) = (Api::new(), Arc::new(Fake::with_images(&[BUSYBOX])));
        fake.state.lock().registry.insert("test.local/data:1".into());
        let abilities = Abilities { image_volumes: true, ..Abilities::default() };
        let (_changes, changed) = mpsc::channel(1);
        let node = run(&paths, &cgroup, api.clone(), fake.clone(), abilities, changed);
        let with = |image: Value| {
            let mount = json!([{ "name": "data", "mountPath": "/data", "subPath": "models" }]);
            let c = container("main", LOOP, json!({ "volumeMounts": mount, "lifecycle": { "stopSignal": "SIGUSR1" } }));
            json!({ "os": { "name": "linux" }, "volumes": [{ "name": "data", "image": image }], "containers": [c] })
        };
        api.put("pods", pod("p", with(json!({ "reference": "test.local/data:1" }))));
        api.put("pods", pod("none", with(json!({ "reference": "test.local/none:1", "pullPolicy": "Never" }))));
        api.until("pods", "default", "p", is_ready).await;
        {
            let state = fake.state.lock();
            let made = state.configs.values().next().expect("a container");
            let mount = made.mounts.iter().find(|m| m.container_path == "/data").expect("the volume");
            let image = mount.image.as_ref().map(|i| i.image.as_str());
            assert_eq!((image, mount.image_sub_path.as_str()), (Some("sha256:test.local/data:1"), "models"));
            assert!(mount.readonly && mount.host_path.is_empty());
            assert_eq!(made.stop_signal, 29, "SIGUSR1 by the interface's count");
        }
        let waiting = |p: &Value| p["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        let none = api.until("pods", "default", "none", |p| waiting(p)["reason"] == "ErrImageNeverPull").await;
        let why = "Container image \"test.local/none:1\" is not present with pull policy of Never";
        assert_eq!(waiting(&none)["message"], why);
        for name in ["p", "none"] {
            api.delete_pod("default", name, 0);
            api.until("pods", "default", name, Value::is_null).await;
        }
        node.stop().await;
    });
}
