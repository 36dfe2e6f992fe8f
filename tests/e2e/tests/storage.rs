//! Claims and volumes on the default class: they are made for the first pod, keep their data, and go.

use kybern_e2e::{Namespace, ensure, eventually, run, shell};

fn claim(name: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{ name: {name} }}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{ requests: {{ storage: 1Mi }} }}
"#
    )
}

/// A pod that runs a command with the claim `data` at /data.
fn pod(name: &str, command: &str) -> String {
    let volume = "  volumes: [{ name: data, persistentVolumeClaim: { claimName: data } }]\n";
    let mount = "    volumeMounts: [{ name: data, mountPath: /data }]\n";
    shell(name, command) + mount + volume
}

fn ended(ns: &Namespace, pod: &str) {
    ns.say(&["wait", &format!("pod/{pod}"), "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]);
}

#[test]
fn a_claim_keeps_data_from_pod_to_pod_and_goes_with_its_volume() {
    let ns = Namespace::new("storage");
    ns.apply(&claim("data"));
    eventually("the claim waits for its first pod", || {
        let events = ns.kubectl(&["get", "events", "--field-selector", "involvedObject.name=data"])?;
        ensure(events.contains("WaitForFirstConsumer"), || events.clone())
    });
    assert_eq!(ns.path(&["pvc", "data"], "{.spec.storageClassName}/{.status.phase}").unwrap(), "local-path/Pending");

    ns.apply(&pod("writer", "echo kept > /data/file"));
    ended(&ns, "writer");
    let row = ns.say(&["get", "pvc", "data", "--no-headers"]);
    assert!(row.contains("Bound") && row.contains("RWO") && row.contains("1Mi"), "{row}");
    let volume = ns.path(&["pvc", "data"], "{.spec.volumeName}").unwrap();
    ns.say(&["delete", "pod", "writer"]);
    ns.apply(&pod("reader", "cat /data/file; sleep 600"));
    ns.ready("reader");
    assert_eq!(ns.say(&["logs", "reader"]), "kept");
    let node = "{.spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values[0]}";
    let at = run(&["get", "pv", &volume, "-o", &format!("jsonpath={node}")], None).unwrap();
    assert_eq!(ns.path(&["pod", "reader"], "{.spec.nodeName}").unwrap(), at, "the pod goes where its data is");

    let shrink = r#"{"spec": {"resources": {"requests": {"storage": "512Ki"}}}}"#;
    let refused = ns.refused(&["patch", "pvc", "data", "-p", shrink]);
    assert!(refused.contains("field can not be less than status.capacity"), "{refused}");
    ns.say(&["patch", "pvc", "data", "-p", r#"{"spec": {"resources": {"requests": {"storage": "2Mi"}}}}"#]);
    eventually("it grows", || {
        let size = ns.path(&["pvc", "data"], "{.status.capacity.storage}")?;
        ensure(size == "2Mi", || size.clone())
    });

    ns.say(&["delete", "pvc", "data", "--wait=false"]);
    let row = ns.say(&["get", "pvc", "data", "--no-headers"]);
    assert!(row.contains("Terminating"), "a claim in use stays: {row}");
    ns.say(&["delete", "pod", "reader", "--wait=true"]);
    eventually("claim and volume go", || {
        let left = ns.kubectl(&["get", "pvc", "-o", "name"])? + &run(&["get", "pv", "-o", "name"], None)?;
        ensure(!left.contains("data") && !left.contains(&volume), || left.clone())
    });
    let asked = run(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.annotations}"], None).unwrap();
    assert!(!asked.contains(&volume), "the nodes have given it back: {asked}");
}

#[test]
fn volumes_made_by_hand_are_bound_by_what_they_offer() {
    let ns = Namespace::new("byhand");
    let name = ns.name().to_owned();
    let volume = |suffix: &str, size: &str| {
        format!(
            "---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {{ name: {name}-{suffix} }}\nspec: {{ storageClassName: {name}, accessModes: [ReadWriteOnce], capacity: {{ storage: {size} }}, hostPath: {{ path: /tmp }} }}\n"
        )
    };
    ns.apply(&(volume("small", "1Gi") + &volume("fits", "3Gi") + &volume("large", "9Gi")));
    let wanted =
        claim("data").replace("1Mi", "2Gi").replace("spec:\n", &format!("spec:\n  storageClassName: {name}\n"));
    ns.apply(&wanted);
    ns.say(&["wait", "pvc/data", "--for=jsonpath={.status.phase}=Bound", "--timeout=30s"]);
    let fits = format!("{name}-fits");
    assert_eq!(
        ns.path(&["pvc", "data"], "{.spec.volumeName} {.status.capacity.storage}").unwrap(),
        format!("{fits} 3Gi")
    );
    ns.say(&["delete", "pvc", "data"]);
    eventually("the volume is retained, and released", || {
        let phase = run(&["get", "pv", &fits, "-o", "jsonpath={.status.phase}"], None)?;
        ensure(phase == "Released", || phase.clone())
    });
    for suffix in ["small", "fits", "large"] {
        run(&["delete", "pv", &format!("{name}-{suffix}")], None).unwrap();
    }
}

#[test]
fn a_pod_can_have_a_claim_of_its_own() {
    let ns = Namespace::new("ownclaim");
    let spec = "spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: 1Mi } } }";
    let template = format!("ephemeral: {{ volumeClaimTemplate: {{ metadata: {{ labels: {{ of: p }} }}, {spec} }} }}");
    let volume = format!("  volumes: [{{ name: data, {template} }}]\n");
    let mount = "    volumeMounts: [{ name: data, mountPath: /data }]\n";
    ns.apply(&(shell("p", "echo own > /data/file; cat /data/file; sleep 600") + mount + &volume));
    ns.ready("p");
    assert_eq!(ns.say(&["logs", "p"]), "own");
    let owner = "{.metadata.labels.of} {.metadata.ownerReferences[0].name} {.status.phase}";
    assert_eq!(ns.path(&["pvc", "p-data"], owner).unwrap(), "p p Bound");
    let volume = ns.path(&["pvc", "p-data"], "{.spec.volumeName}").unwrap();
    ns.say(&["delete", "pod", "p", "--wait=true"]);
    eventually("claim and volume go with the pod", || {
        let left = ns.kubectl(&["get", "pvc", "-o", "name"])? + &run(&["get", "pv", "-o", "name"], None)?;
        ensure(!left.contains("p-data") && !left.contains(&volume), || left.clone())
    });

    // Whoever has a claim of that name already keeps it.
    ns.apply(&claim("q-data"));
    ns.apply(&(shell("q", "sleep 600") + mount + &format!("  volumes: [{{ name: data, {template} }}]\n")));
    eventually("the pod says so", || {
        let events =
            ns.kubectl(&["get", "events", "--field-selector", "involvedObject.name=q,reason=FailedBinding"])?;
        ensure(events.contains("was not created for pod"), || events.clone())
    });
}

#[test]
fn a_claim_can_be_used_for_reading_only() {
    let ns = Namespace::new("readonly");
    ns.apply(&claim("data"));
    let manifest = pod("p", "touch /data/f || echo refused; sleep 600");
    ns.apply(&manifest.replace("claimName: data", "claimName: data, readOnly: true"));
    ns.ready("p");
    eventually("a write is refused", || {
        let log = ns.kubectl(&["logs", "p"])?;
        ensure(log.contains("refused"), || log.clone())
    });
}

/// A database of two: each pod writes its name into its volume once, and counts its starts there.
fn database() -> String {
    let start = "[ -f /data/name ] || hostname > /data/name; echo start >> /data/starts; touch /tmp/up; sleep 3600";
    format!(
        r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {{ name: db }}
spec:
  serviceName: db
  replicas: 2
  persistentVolumeClaimRetentionPolicy: {{ whenDeleted: Delete, whenScaled: Retain }}
  selector: {{ matchLabels: {{ app: db }} }}
  template:
    metadata: {{ labels: {{ app: db }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: db
        image: kybern.local/web:1
        command: ["/bin/sh", "-c", "{start}"]
        readinessProbe: {{ exec: {{ command: ["test", "-f", "/tmp/up"] }}, periodSeconds: 1 }}
        volumeMounts: [{{ name: data, mountPath: /data }}]
  volumeClaimTemplates:
  - metadata: {{ name: data }}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {{ requests: {{ storage: 1Mi }} }}
"#
    )
}

#[test]
fn a_stateful_set_makes_keeps_and_cleans_up_its_claims() {
    let ns = Namespace::new("claims");
    ns.apply(&database());
    let rolled_out = || ns.say(&["rollout", "status", "statefulset/db", "--timeout=60s"]);
    let read = |pod: &str, file: &str| ns.say(&["exec", pod, "--", "cat", &format!("/data/{file}")]);
    let claims = || ns.kubectl(&["get", "pvc", "-o", "jsonpath={.items[*].metadata.name}"]);
    rolled_out();
    assert_eq!(claims().unwrap(), "data-db-0 data-db-1");
    assert_eq!((read("db-0", "name"), read("db-1", "name")), ("db-0".into(), "db-1".into()));

    ns.say(&["delete", "pod", "db-1"]);
    rolled_out();
    eventually("the pod is back with its data", || {
        let starts = ns.kubectl(&["exec", "db-1", "--", "cat", "/data/starts"])?;
        ensure(starts.lines().count() == 2, || starts.clone())
    });
    assert_eq!(read("db-1", "name"), "db-1");

    ns.say(&["scale", "statefulset/db", "--replicas=1"]);
    eventually("the second pod goes", || {
        let pods = ns.kubectl(&["get", "pods", "-o", "name"])?;
        ensure(pods.trim() == "pod/db-0", || pods.clone())
    });
    assert_eq!(claims().unwrap(), "data-db-0 data-db-1", "claims stay when the set shrinks");
    ns.say(&["scale", "statefulset/db", "--replicas=2"]);
    rolled_out();
    assert_eq!(read("db-1", "starts").lines().count(), 3, "and serve it again");

    ns.say(&["delete", "statefulset", "db"]);
    eventually("the claims go with the set", || {
        let left = claims()?;
        ensure(left.is_empty(), || left.clone())
    });
}
