//! What the node does with a pod's own wishes: names, resources, security, order, debugging.

use kybern_e2e::{Namespace, PATIENCE, ensure, eventually, run, shell, within};
use std::time::Duration;

/// A pod with these lines in its spec, whose main container sleeps.
fn pod(name: &str, spec: &str, container: &str) -> String {
    let indent = |text: &str, by: usize| text.lines().map(|l| format!("{}{l}\n", " ".repeat(by))).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, labels: {{ app: {name} }} }}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n{}  containers:\n  - name: main\n    image: kybern.local/web:1\n    \
         command: [\"/bin/sh\", \"-c\", \"trap exit TERM; while :; do sleep 0.2; done\"]\n{}",
        indent(spec, 2),
        indent(container, 4)
    )
}

fn exec(ns: &Namespace, pod: &str, script: &str) -> String {
    ns.say(&["exec", pod, "-c", "main", "--", "/bin/sh", "-c", script])
}

fn waits_for(ns: &Namespace, pod: &str, reason: &str) -> String {
    eventually(reason, || {
        let waiting = ns.path(&["pod", pod], "{.status.containerStatuses[0].state.waiting.reason}")?;
        ensure(waiting == reason, || waiting.clone())
    });
    ns.path(&["pod", pod], "{.status.containerStatuses[0].state.waiting.message}").unwrap()
}

#[test]
fn a_pod_has_the_names_it_asks_for() {
    let ns = Namespace::new("names");
    let spec = "hostname: db\nsubdomain: peers\nsetHostnameAsFQDN: true\nhostAliases:\n- { ip: 192.0.2.7, hostnames: [one, two] }\n\
                dnsConfig: { searches: [corp.example], options: [{ name: ndots, value: \"2\" }] }";
    ns.apply(&pod("p", spec, ""));
    ns.ready("p");
    let full = format!("db.peers.{}.svc.cluster.local", ns.name());
    let hosts = exec(&ns, "p", "cat /etc/hosts");
    assert!(hosts.starts_with("# Kubernetes-managed hosts file."), "{hosts}");
    assert!(hosts.contains(&format!("{full}\tdb\n")) && hosts.contains("192.0.2.7\tone\ttwo"), "{hosts}");
    assert_eq!(exec(&ns, "p", "cat /proc/sys/kernel/hostname"), full);
    let resolv = exec(&ns, "p", "cat /etc/resolv.conf");
    assert!(resolv.contains("corp.example") && resolv.contains("ndots:2") && !resolv.contains("ndots:5"), "{resolv}");
}

#[test]
fn a_running_pod_is_debugged_with_another_container() {
    let ns = Namespace::new("debug");
    ns.apply(&pod("p", "", ""));
    ns.ready("p");
    let command = ["/bin/sh", "-c", "ps; echo in $(cat /proc/1/cmdline | tr '\\0' ' ')"];
    let debug = ["debug", "p", "-c", "look", "--image=kybern.local/web:1", "--target=main", "--profile=general", "--"];
    ns.say(&[&debug[..], &command].concat());
    eventually("it has looked", || {
        let code = ns.path(&["pod", "p"], "{.status.ephemeralContainerStatuses[0].state.terminated.exitCode}")?;
        ensure(code == "0", || code.clone())
    });
    let seen = ns.say(&["logs", "p", "-c", "look"]);
    assert!(seen.contains("in /bin/sh -c trap exit"), "it sees the processes of the other one: {seen}");
    let again = [&debug[..2], &["-c", "again"], &debug[4..], &["/bin/sh", "-c", "exit 3"]].concat();
    ns.say(&again);
    eventually("both are listed", || {
        let codes = ns.path(&["pod", "p"], "{.status.ephemeralContainerStatuses[*].state.terminated.exitCode}")?;
        ensure(codes == "0 3", || codes.clone())
    });
    assert_eq!(ns.path(&["pod", "p"], "{.status.containerStatuses[0].restartCount}").unwrap(), "0");
}

#[test]
fn sidecars_start_before_and_end_after_the_others() {
    let ns = Namespace::new("sidecars");
    let say =
        |name: &str| format!("trap 'echo $(date +%s%N) {name} >> /log/ends; exit 0' TERM; while :; do sleep 0.1; done");
    let container = |name: &str, more: &str| {
        format!(
            "- name: {name}\n  image: kybern.local/web:1\n  volumeMounts: [{{ name: log, mountPath: /log }}]\n{more}  \
             command: [\"/bin/sh\", \"-c\", {}]\n",
            serde_json::Value::from(say(name))
        )
    };
    let probe = "  restartPolicy: Always\n  startupProbe: { exec: { command: [\"true\"] }, periodSeconds: 1 }\n";
    let indent = |t: String| t.lines().map(|l| format!("  {l}\n")).collect::<String>();
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: p }}\nspec:\n  terminationGracePeriodSeconds: 15\n  volumes: [{{ name: \
         log, hostPath: {{ path: /tmp/kybern-e2e-{}, type: DirectoryOrCreate }} }}]\n  initContainers:\n{}  containers:\n{}",
        ns.name(),
        indent(container("first", probe) + &container("second", probe)),
        indent(container("main", ""))
    );
    ns.apply(&manifest);
    ns.ready("p");
    let times =
        ns.path(&["pod", "p"], "{range .status.initContainerStatuses[*]}{.name} {.ready} {.started},{end}").unwrap();
    assert_eq!(times, "first true true,second true true,");
    ns.say(&["delete", "pod", "p"]);
    // The node's file system is this machine's.
    let path = format!("/tmp/kybern-e2e-{}/ends", ns.name());
    if let Ok(ends) = std::fs::read_to_string(&path) {
        let order: Vec<&str> = ends.lines().filter_map(|l| l.split(' ').nth(1)).collect();
        assert_eq!(order, ["main", "second", "first"]);
        std::fs::remove_dir_all(format!("/tmp/kybern-e2e-{}", ns.name())).unwrap();
    }
}

#[test]
fn probes_restart_and_hold_back() {
    let ns = Namespace::new("probes");
    let failing = "livenessProbe: { exec: { command: [\"false\"] }, periodSeconds: 1, failureThreshold: 1, \
                   terminationGracePeriodSeconds: 1 }";
    ns.apply(&pod("live", "terminationGracePeriodSeconds: 60", failing).replacen(
        "  terminationGracePeriodSeconds: 1\n",
        "",
        1,
    ));
    ns.apply(&pod("grpc", "", "readinessProbe: { grpc: { port: 9 }, periodSeconds: 1 }"));
    eventually("the failing probe restarts it", || {
        let count = ns.path(&["pod", "live"], "{.status.containerStatuses[0].restartCount}")?;
        ensure(count.parse::<u32>().is_ok_and(|c| c > 0), || count.clone())
    });
    eventually("events tell why", || {
        let events = ns.path(&["events"], "{.items[*].message}")?;
        let all = [
            "Container main failed liveness probe, will be restarted",
            "Readiness probe failed",
            "failed to connect service",
        ];
        ensure(all.iter().all(|m| events.contains(m)), || events.clone())
    });
    assert_eq!(ns.path(&["pod", "grpc"], "{.status.containerStatuses[0].ready}").unwrap(), "false");
}

#[test]
fn containers_are_confined_as_asked_and_by_default() {
    let ns = Namespace::new("security");
    let own = "securityContext: { runAsUser: 1234, runAsGroup: 5678, readOnlyRootFilesystem: true, \
               allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }";
    ns.apply(&pod("p", "securityContext: { supplementalGroups: [77], sysctls: [{ name: net.ipv4.ip_unprivileged_port_start, value: \"80\" }] }", own));
    ns.apply(&pod("root", "", "securityContext: { runAsNonRoot: true }"));
    ns.apply(&pod("sysctl", "securityContext: { sysctls: [{ name: kernel.panic, value: \"1\" }] }", ""));
    ns.apply(&pod("users", "hostUsers: false", ""));
    ns.ready("p");
    let status =
        exec(&ns, "p", "id; cat /proc/self/status; touch /x 2>&1; cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
    assert!(status.contains("uid=1234 gid=5678") && status.contains("77"), "{status}");
    for line in ["NoNewPrivs:\t1", "CapEff:\t0000000000000000", "Seccomp:\t2", "Read-only file system"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(status.trim_end().ends_with("80"), "{status}");
    let why = waits_for(&ns, "root", "CreateContainerConfigError");
    assert!(why.starts_with("container has runAsNonRoot and image will run as root (pod: \"root_"), "{why}");
    for (pod, reason) in [("sysctl", "SysctlForbidden"), ("users", "UserNamespacesNotSupported")] {
        eventually(reason, || {
            let status = ns.path(&["pod", pod], "{.status.phase} {.status.reason}")?;
            ensure(status == format!("Failed {reason}"), || status.clone())
        });
    }
}

#[test]
fn images_that_cannot_be_had_say_why() {
    let ns = Namespace::new("images");
    for (name, image, policy) in [
        ("never", "kybern.local/none:1", "Never"),
        ("bad", "UPPER:1", "Always"),
        ("gone", "127.0.0.1:1/none:1", "Always"),
    ] {
        ns.apply(
            &shell(name, "true")
                .replace("image: kybern.local/web:1", &format!("image: {image}\n    imagePullPolicy: {policy}")),
        );
    }
    let never = waits_for(&ns, "never", "ErrImageNeverPull");
    assert_eq!(never, "Container image \"kybern.local/none:1\" is not present with pull policy of Never");
    waits_for(&ns, "bad", "InvalidImageName");
    let backoff = waits_for(&ns, "gone", "ImagePullBackOff");
    assert!(backoff.starts_with("Back-off pulling image \"127.0.0.1:1/none:1\": ErrImagePull: "), "{backoff}");
    assert!(backoff.contains("connection refused"), "the cause: {backoff}");
}

#[test]
fn a_running_container_gets_other_resources() {
    let ns = Namespace::new("resize");
    ns.apply(&pod(
        "p",
        "",
        "resources: { requests: { cpu: 100m, memory: 32Mi }, limits: { cpu: 200m, memory: 64Mi } }",
    ));
    ns.ready("p");
    let id = ns.path(&["pod", "p"], "{.status.containerStatuses[0].containerID}").unwrap();
    let patch = |cpu: &str| {
        format!(
            r#"{{"spec":{{"containers":[{{"name":"main","resources":{{"requests":{{"cpu":"{cpu}"}},"limits":{{"cpu":"1000"}}}}}}]}}}}"#
        )
    };
    ns.say(&["patch", "pod", "p", "--subresource", "resize", "-p", &patch("150m")]);
    eventually("it is applied", || {
        let path = "{.status.containerStatuses[0].resources.requests.cpu} {.status.containerStatuses[0].allocatedResources.cpu}";
        let now = ns.path(&["pod", "p"], path)?;
        ensure(now == "150m 150m", || now.clone())
    });
    ns.say(&["patch", "pod", "p", "--subresource", "resize", "-p", &patch("900")]);
    eventually("too much is infeasible", || {
        let why = ns.path(&["pod", "p"], "{.status.conditions[?(@.type==\"PodResizePending\")].reason}")?;
        ensure(why == "Infeasible", || why.clone())
    });
    assert_eq!(
        ns.path(&["pod", "p"], "{.status.containerStatuses[0].containerID}").unwrap(),
        id,
        "nothing was restarted"
    );
    let refused = ns.refused(&[
        "patch",
        "pod",
        "p",
        "--subresource",
        "resize",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/spec/containers/0/resources/limits/memory"}]"#,
    ]);
    assert!(refused.contains("resource limits cannot be removed"), "{refused}");
}

#[test]
fn what_is_used_is_shown_by_top() {
    let ns = Namespace::new("top");
    ns.apply(&pod("p", "", ""));
    ns.ready("p");
    eventually("the pod's use is known", || {
        let top = ns.kubectl(&["top", "pod", "p", "--containers", "--no-headers"])?;
        let cells: Vec<&str> = top.split_whitespace().collect();
        let known = matches!(cells[..], ["p", "main", cpu, memory] if cpu.ends_with('m') && memory.ends_with("Mi"));
        ensure(known, || top.clone())
    });
    let nodes = ns.say(&["top", "nodes", "--no-headers"]);
    let count = ns.say(&["get", "nodes", "-o", "name"]).lines().count();
    assert_eq!(nodes.lines().count(), count, "{nodes}");
    assert!(nodes.lines().all(|l| l.split_whitespace().count() == 5 && l.contains('%')), "{nodes}");
}

#[test]
fn a_volume_that_outgrows_its_limit_costs_the_pod() {
    let ns = Namespace::new("outgrown");
    let spec = "restartPolicy: Never\nvolumes: [{ name: v, emptyDir: { sizeLimit: 1Mi } }]";
    ns.apply(&pod("p", spec, "volumeMounts: [{ name: v, mountPath: /v }]"));
    ns.ready("p");
    exec(&ns, "p", "dd if=/dev/zero of=/v/f bs=1M count=3");
    within("it is evicted", PATIENCE, || {
        let status = ns.path(&["pod", "p"], "{.status.phase} {.status.reason}: {.status.message}")?;
        let wanted = "Failed Evicted: Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\".";
        ensure(status.trim_end() == wanted, || status.clone())
    });
    let disrupted = ns.path(&["pod", "p"], "{.status.conditions[?(@.type==\"DisruptionTarget\")].reason}").unwrap();
    assert_eq!(disrupted, "TerminationByKubelet");
}

#[test]
fn a_pod_whose_time_is_over_fails() {
    let ns = Namespace::new("deadline");
    ns.apply(&pod("p", "restartPolicy: Never\nactiveDeadlineSeconds: 2", ""));
    within("its deadline", Duration::from_secs(30), || {
        let status = ns.path(&["pod", "p"], "{.status.phase} {.status.reason}")?;
        ensure(status == "Failed DeadlineExceeded", || status.clone())
    });
}

#[test]
fn a_hook_holds_up_the_containers_after_it() {
    let ns = Namespace::new("hooks");
    let hook = "lifecycle: { postStart: { exec: { command: [\"/bin/sh\", \"-c\", \"sleep 2; touch /tmp/hooked\"] } } }";
    let second = "- name: second\n    image: kybern.local/web:1\n    command: [\"/bin/sh\", \"-c\", \"sleep 1000\"]\n";
    ns.apply(&format!("{}  {second}", pod("p", "", hook)));
    ns.ready("p");
    let started =
        ns.path(&["pod", "p"], "{range .status.containerStatuses[*]}{.state.running.startedAt} {end}").unwrap();
    let times: Vec<&str> = started.split_whitespace().collect();
    assert!(times.len() == 2 && times[0] < times[1], "the second began after the first one's hook: {started}");
}

#[test]
fn a_pod_that_is_sent_where_it_does_not_fit_fails_there() {
    let ns = Namespace::new("misfit");
    let node = run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"], None).unwrap();
    let here = format!("restartPolicy: Never\nnodeName: {node}\n");
    ns.apply(&pod("greedy", &here, "resources: { requests: { cpu: 1000 } }"));
    ns.apply(&pod("choosy", &format!("{here}nodeSelector: {{ no-node: has-this }}\n"), ""));
    let said = |name: &str, wanted: &str| {
        eventually(wanted, || {
            let status = ns.path(&["pod", name], "{.status.phase} {.status.reason}: {.status.message}")?;
            ensure(status.starts_with(wanted), || status.clone())
        });
    };
    let lack = "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: ";
    said("greedy", &format!("Failed OutOfcpu: {lack}"));
    let affinity = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    said("choosy", &format!("Failed NodeAffinity: {affinity}"));

    // Of two that want the same port of the node, the second fails.
    let port = "ports: [{ containerPort: 80, hostPort: 32801, hostIP: 127.0.0.2 }]";
    ns.apply(&pod("first", &here, port));
    ns.ready("first");
    ns.apply(&pod("second", &here, port));
    said("second", "Failed NodePorts: Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports");
}
