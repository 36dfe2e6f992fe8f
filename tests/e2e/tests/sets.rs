//! StatefulSets, DaemonSets and ReplicationControllers with real containers.

use anyhow::Result;
use kybern_e2e::{Namespace, cells, ensure, eventually, run};

/// A workload of the web image whose pods start and end quickly.
fn workload(kind: &str, name: &str, more: &str) -> String {
    let (api, selector) = match kind {
        "ReplicationController" => ("v1", format!("{{ app: {name} }}")),
        _ => ("apps/v1", format!("{{ matchLabels: {{ app: {name} }} }}")),
    };
    format!(
        r#"
apiVersion: {api}
kind: {kind}
metadata: {{ name: {name} }}
spec:
  {more}
  selector: {selector}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: kybern.local/web:1
        ports: [{{ containerPort: 8080, name: http }}]
        readinessProbe: {{ httpGet: {{ path: /, port: http }}, periodSeconds: 1 }}
"#
    )
}

/// What COLOUR is in each pod, by the pods' names.
fn colours(ns: &Namespace, app: &str) -> Result<String> {
    let each = "{range .items[*]}{.spec.containers[0].env[?(@.name==\"COLOUR\")].value},{end}";
    ns.path(&["pods", "-l", &format!("app={app}"), "--sort-by=.metadata.name"], each)
}

fn status(ns: &Namespace, what: &str) -> String {
    ns.say(&["rollout", "status", what, "--timeout=60s"])
}

fn revisions(ns: &Namespace, what: &str) -> Vec<String> {
    let history = ns.say(&["rollout", "history", what]);
    history.lines().skip(2).map(|l| cells(l)[0].to_owned()).collect()
}

#[test]
fn a_stateful_set_starts_in_order_and_updates_down_to_its_partition() {
    let ns = Namespace::new("stateful");
    ns.apply(&workload("StatefulSet", "db", "serviceName: db\n  replicas: 2"));
    // kubectl calls every rollout partitioned whose partition is set, also if it is 0.
    assert!(status(&ns, "statefulset/db").contains("partitioned roll out complete: 2 new pods have been updated"));
    let ready = ns.path(&["pod", "db-0"], "{.status.conditions[?(@.type==\"Ready\")].lastTransitionTime}").unwrap();
    let next = ns.path(&["pod", "db-1"], "{.metadata.creationTimestamp}").unwrap();
    assert!(ready <= next, "the second pod waits for the first: {ready} {next}");
    let identity = "{.spec.hostname} {.metadata.labels.apps\\.kubernetes\\.io/pod-index}";
    assert_eq!(ns.path(&["pod", "db-1"], identity).unwrap(), "db-1 1");
    assert_eq!(ns.say(&["scale", "statefulset/db", "--replicas=3"]), "statefulset.apps/db scaled");
    status(&ns, "statefulset/db");

    let partition = |n: u32| {
        let patch = format!(r#"{{"spec":{{"updateStrategy":{{"rollingUpdate":{{"partition":{n}}}}}}}}}"#);
        ns.say(&["patch", "statefulset", "db", "-p", &patch]);
    };
    partition(2);
    ns.say(&["set", "env", "statefulset/db", "COLOUR=blue"]);
    assert!(status(&ns, "statefulset/db").contains("partitioned roll out complete: 1 new pods have been updated"));
    ns.say(&["delete", "pod", "db-0"]);
    eventually("the deleted pod is back, as old as it was", || {
        let (colours, ready) = (colours(&ns, "db")?, ns.path(&["statefulset", "db"], "{.status.readyReplicas}")?);
        ensure(colours == ",,blue," && ready == "3", || format!("{colours} {ready}"))
    });
    partition(0);
    status(&ns, "statefulset/db");
    assert_eq!(colours(&ns, "db").unwrap(), "blue,blue,blue,");

    assert_eq!(revisions(&ns, "statefulset/db"), ["1", "2"]);
    assert_eq!(ns.say(&["rollout", "undo", "statefulset/db"]), "statefulset.apps/db rolled back");
    status(&ns, "statefulset/db");
    assert_eq!(colours(&ns, "db").unwrap(), ",,,");
    assert_eq!(revisions(&ns, "statefulset/db"), ["2", "3"]);

    ns.say(&["scale", "statefulset/db", "--replicas=1"]);
    eventually("the highest ordinals go", || {
        let left = ns.kubectl(&["get", "pods", "-o", "name"])?;
        ensure(left.trim() == "pod/db-0", || left.clone())
    });
}

#[test]
fn a_daemon_set_is_on_every_node_it_fits_and_rolls() {
    let ns = Namespace::new("daemon");
    ns.apply(&workload("DaemonSet", "agent", ""));
    let said = status(&ns, "daemonset/agent");
    assert!(said.contains("daemon set \"agent\" successfully rolled out"), "{said}");
    let sorted = |text: String| {
        let mut names: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    let nodes = sorted(run(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"], None).unwrap());
    let on = || ns.path(&["pods", "-l", "app=agent"], "{.items[*].spec.nodeName}").map(sorted);
    assert_eq!(on().unwrap(), nodes);

    ns.say(&["set", "env", "daemonset/agent", "COLOUR=blue"]);
    status(&ns, "daemonset/agent");
    assert_eq!(colours(&ns, "agent").unwrap(), "blue,".repeat(nodes.len()));
    assert_eq!(revisions(&ns, "daemonset/agent"), ["1", "2"]);
    assert_eq!(ns.say(&["rollout", "undo", "daemonset/agent"]), "daemonset.apps/agent rolled back");
    status(&ns, "daemonset/agent");
    assert_eq!(colours(&ns, "agent").unwrap(), ",".repeat(nodes.len()));

    let label = format!("{}/agent", ns.name());
    let patch = format!(r#"{{"spec":{{"template":{{"spec":{{"nodeSelector":{{"{label}":"yes"}}}}}}}}}}"#);
    ns.say(&["patch", "daemonset", "agent", "-p", &patch]);
    eventually("no node fits", || on().and_then(|on| ensure(on.is_empty(), || on.join(" "))));
    run(&["label", "node", &nodes[0], &format!("{label}=yes")], None).unwrap();
    eventually("one does now", || on().and_then(|on| ensure(on == nodes[..1], || on.join(" "))));
    run(&["label", "node", &nodes[0], &format!("{label}-")], None).unwrap();
    eventually("none again", || on().and_then(|on| ensure(on.is_empty(), || on.join(" "))));
}

#[test]
fn a_replication_controller_is_exposed_scaled_and_leaves_its_pods() {
    let ns = Namespace::new("rc");
    ns.apply(&workload("ReplicationController", "web", "replicas: 1"));
    assert_eq!(ns.say(&["expose", "rc", "web", "--port=80", "--target-port=8080"]), "service/web exposed");
    assert_eq!(ns.say(&["scale", "rc/web", "--replicas=2"]), "replicationcontroller/web scaled");
    eventually("both pods serve", || {
        let ready = ns.path(&["rc", "web"], "{.status.readyReplicas}")?;
        let addresses = ns.path(&["endpointslices"], "{.items[*].endpoints[*].addresses[0]}")?;
        ensure(ready == "2" && addresses.split(' ').count() == 2, || format!("{ready} ready, at {addresses}"))
    });
    let uids = || ns.path(&["pods", "-l", "app=web", "--sort-by=.metadata.name"], "{.items[*].metadata.uid}");
    let before = uids().unwrap();
    ns.say(&["delete", "rc", "web", "--cascade=orphan"]);
    ns.apply(&workload("ReplicationController", "web", "replicas: 2"));
    eventually("the pods are taken over", || {
        let owned = ns.path(&["rc", "web"], "{.status.readyReplicas}")?;
        ensure(owned == "2", || owned.clone())
    });
    assert_eq!(uids().unwrap(), before);
}
