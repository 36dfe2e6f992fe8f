//! Deployments with real containers: rollout, scale, new images and back; how containers end.

use kybern_e2e::{Namespace, cells, ensure, eventually, shell, web};

#[test]
fn a_deployment_rolls_out_scales_updates_and_goes_back() {
    let ns = Namespace::new("rollout");
    ns.apply(&web("web", 2));
    let said = ns.rolled_out("web");
    assert!(said.ends_with("deployment \"web\" successfully rolled out"), "{said}");
    assert_eq!(ns.say(&["scale", "deployment/web", "--replicas=3"]), "deployment.apps/web scaled");
    ns.rolled_out("web");
    assert_eq!(ns.path(&["deployment", "web"], "{.status.readyReplicas}").unwrap(), "3");
    let unmet = ns.refused(&["scale", "deployment/web", "--current-replicas=7", "--replicas=1"]);
    assert!(unmet.contains("Expected replicas to be 7, was 3"), "{unmet}");

    let said = ns.say(&["set", "image", "deployment/web", "web=kybern.local/nowhere:1"]);
    assert_eq!(said, "deployment.apps/web image updated");
    eventually("the new image can't be had", || {
        let pods = ns.kubectl(&["get", "pods"])?;
        ensure(pods.contains("ErrImagePull") || pods.contains("ImagePullBackOff"), || pods.clone())
    });
    let late = ns.refused(&["rollout", "status", "deployment/web", "--timeout=1s"]);
    assert!(late.contains("timed out waiting"), "{late}");
    let available: u32 = ns.path(&["deployment", "web"], "{.status.availableReplicas}").unwrap().parse().unwrap();
    assert!(available >= 2, "a rolling update keeps its minimum: {available}");
    let history = ns.say(&["rollout", "history", "deployment/web"]);
    let rows: Vec<_> = history.lines().skip(1).map(cells).collect();
    assert_eq!(rows, [["REVISION", "CHANGE-CAUSE"], ["1", "<none>"], ["2", "<none>"]]);
    let second = ns.say(&["rollout", "history", "deployment/web", "--revision=2"]);
    assert!(second.contains("kybern.local/nowhere:1"), "{second}");

    assert_eq!(ns.say(&["rollout", "undo", "deployment/web"]), "deployment.apps/web rolled back");
    ns.rolled_out("web");
    let image = ns.path(&["deployment", "web"], "{.spec.template.spec.containers[0].image}").unwrap();
    assert_eq!(image, "kybern.local/web:1");
    let history = ns.say(&["rollout", "history", "deployment/web"]);
    let revisions: Vec<_> = history.lines().skip(2).map(|l| cells(l)[0]).collect();
    assert_eq!(revisions, ["2", "3"], "the old template is the newest revision now");

    ns.say(&["delete", "deployment", "web"]);
    eventually("its pods go", || {
        let left = ns.kubectl(&["get", "replicasets,pods", "-o", "name"])?;
        ensure(left.trim().is_empty(), || left.clone())
    });
}

#[test]
fn a_restart_replaces_every_pod_and_a_pause_holds_changes_back() {
    let ns = Namespace::new("restart");
    ns.apply(&web("web", 2));
    ns.rolled_out("web");
    let uids = || ns.path(&["pods", "-l", "app=web"], "{.items[*].metadata.uid}").unwrap();
    let before = uids();
    assert_eq!(ns.say(&["rollout", "restart", "deployment/web"]), "deployment.apps/web restarted");
    ns.rolled_out("web");
    eventually("only new pods are left", || {
        let now = uids();
        ensure(now.split(' ').count() == 2 && now.split(' ').all(|u| !before.contains(u)), || now.clone())
    });
    assert_eq!(ns.say(&["rollout", "pause", "deployment/web"]), "deployment.apps/web paused");
    ns.say(&["set", "env", "deployment/web", "COLOUR=blue"]);
    let observed = || {
        let both = ns.path(&["deployment", "web"], "{.metadata.generation} {.status.observedGeneration}")?;
        ensure(both.split(' ').next() == both.split(' ').nth(1), || both.clone())
    };
    eventually("the controller has seen the change", observed);
    assert_eq!(ns.say(&["get", "replicasets", "-o", "name"]).lines().count(), 2, "no third one while paused");
    assert_eq!(ns.say(&["rollout", "resume", "deployment/web"]), "deployment.apps/web resumed");
    ns.rolled_out("web");
    let colours = "{.items[*].spec.containers[0].env[?(@.name==\"COLOUR\")].value}";
    eventually("every pod has the change", || {
        let now = ns.path(&["pods", "-l", "app=web"], colours)?;
        ensure(now == "blue blue" && uids().split(' ').count() == 2, || now.clone())
    });
}

#[test]
fn containers_get_their_environment_and_end_as_they_should() {
    let ns = Namespace::new("ends");
    ns.kubectl(&["create", "configmap", "c", "--from-literal=GREETING=hello"]).unwrap();
    ns.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: once }}
spec:
  restartPolicy: Never
  initContainers:
  - {{ name: first, image: "kybern.local/web:1", command: ["/bin/sh", "-c", "echo init done"] }}
  containers:
  - name: main
    image: kybern.local/web:1
    command: ["/bin/sh", "-c", "echo $(GREETING) from $(POD) in $NS; exit 3"]
    env:
    - {{ name: POD, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
    - {{ name: NS, value: {} }}
    envFrom: [{{ configMapRef: {{ name: c }} }}]
"#,
        ns.name()
    ));
    eventually("it fails with its exit code", || {
        let code =
            ns.path(&["pod", "once"], "{.status.phase}/{.status.containerStatuses[0].state.terminated.exitCode}")?;
        ensure(code == "Failed/3", || code.clone())
    });
    assert_eq!(ns.kubectl(&["logs", "once"]).unwrap().trim(), format!("hello from once in {}", ns.name()));
    assert_eq!(ns.kubectl(&["logs", "once", "-c", "first"]).unwrap().trim(), "init done");

    ns.apply(&shell("loop", "echo up; exit 1").replace("restartPolicy: Never", "restartPolicy: Always"));
    eventually("it is restarted and backs off", || {
        let row = ns.kubectl(&["get", "pod", "loop", "--no-headers"])?;
        ensure(row.contains("CrashLoopBackOff"), || row.clone())
    });
    let before = ns.kubectl(&["logs", "loop", "--previous"]).unwrap();
    assert_eq!(before.trim(), "up");
}
