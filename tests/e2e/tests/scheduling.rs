//! Where pods go and why not: reasons, gates, priorities, preemption.

use kybern_e2e::{Namespace, ensure, eventually, run};

/// A cluster-wide object that goes away with this value.
struct PriorityClass(String);

impl PriorityClass {
    fn new(ns: &Namespace, name: &str, value: i32, policy: &str) -> Self {
        let name = format!("{}-{name}", ns.name());
        ns.apply(&format!(
            "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {{ name: {name} }}\nvalue: {value}\n\
             preemptionPolicy: {policy}\n"
        ));
        Self(name)
    }
}

impl Drop for PriorityClass {
    fn drop(&mut self) {
        let _ = run(&["delete", "priorityclass", &self.0, "--ignore-not-found"], None);
    }
}

/// A pod whose spec has more fields, as lines of YAML.
fn pod(name: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: {name} }} }}
spec:
  terminationGracePeriodSeconds: 1
{more}
"#
    )
}

const SLEEPS: &str = r#"
  containers:
  - name: main
    image: kybern.local/web:1
    command: ["/bin/sh", "-c", "sleep 3600"]
"#;

fn condition(ns: &Namespace, pod: &str, kind: &str, part: &str) -> String {
    ns.path(&["pod", pod], &format!("{{.status.conditions[?(@.type==\"{kind}\")].{part}}}")).unwrap_or_default()
}

fn node_of(ns: &Namespace, pod: &str) -> String {
    ns.path(&["pod", pod], "{.spec.nodeName}").expect("the pod")
}

#[test]
fn a_pod_that_fits_nowhere_says_why_on_itself_and_in_an_event() {
    let ns = Namespace::new("nowhere");
    ns.apply(&pod(
        "huge",
        r#"
  containers:
  - name: main
    image: kybern.local/web:1
    resources: { requests: { cpu: "100000" } }
"#,
    ));
    eventually("the condition says why", || {
        let message = condition(&ns, "huge", "PodScheduled", "message");
        let told =
            message.starts_with("0/") && message.contains("Insufficient cpu") && message.contains(" preemption: 0/");
        ensure(told, || message.clone())
    });
    assert_eq!(condition(&ns, "huge", "PodScheduled", "reason"), "Unschedulable");
    eventually("an event says the same", || {
        let events = ns.kubectl(&["get", "events", "--field-selector", "reason=FailedScheduling"])?;
        ensure(events.contains("Insufficient cpu") && events.contains("Warning"), || events.clone())
    });
}

#[test]
fn a_gated_pod_is_scheduled_when_its_gates_are_lifted() {
    let ns = Namespace::new("gates");
    ns.apply(&pod("gated", &format!("  schedulingGates: [{{ name: example.com/wait }}]\n{SLEEPS}")));
    assert_eq!(condition(&ns, "gated", "PodScheduled", "reason"), "SchedulingGated");
    let row = ns.say(&["get", "pod", "gated", "--no-headers"]);
    assert!(row.contains("SchedulingGated"), "{row}");
    let lift = r#"[{"op": "remove", "path": "/spec/schedulingGates/0"}]"#;
    ns.say(&["patch", "pod", "gated", "--type=json", "-p", lift]);
    ns.ready("gated");
    assert_eq!(condition(&ns, "gated", "PodScheduled", "status"), "True");
}

#[test]
fn a_more_important_pod_takes_the_place_of_a_lesser_one_and_a_polite_one_does_not() {
    let ns = Namespace::new("preempt");
    let high = PriorityClass::new(&ns, "high", 1000, "PreemptLowerPriority");
    let polite = PriorityClass::new(&ns, "polite", 2000, "Never");
    // A port of the node can be had once, so that the node of the first is full for the others.
    let with_port = |class: &str, node: &str| {
        format!(
            r#"
  {class}
  {node}
  containers:
  - name: main
    image: kybern.local/web:1
    command: ["/bin/sh", "-c", "sleep 3600"]
    ports: [{{ containerPort: 54321, hostPort: 54321 }}]
"#
        )
    };
    ns.apply(&pod("lesser", &with_port("", "")));
    ns.ready("lesser");
    let here = format!("nodeSelector: {{ kubernetes.io/hostname: {} }}", node_of(&ns, "lesser"));
    ns.apply(&pod("polite", &with_port(&format!("priorityClassName: {}", polite.0), &here)));
    eventually("the polite pod waits", || {
        let message = condition(&ns, "polite", "PodScheduled", "message");
        ensure(message.contains("not eligible due to preemptionPolicy=Never."), || message.clone())
    });
    assert_eq!(ns.path(&["pod", "lesser"], "{.metadata.deletionTimestamp}").unwrap(), "");
    ns.say(&["delete", "pod", "polite", "--wait=true"]);

    ns.apply(&pod("greater", &with_port(&format!("priorityClassName: {}", high.0), &here)));
    ns.ready("greater");
    assert!(ns.refused(&["get", "pod", "lesser"]).contains("NotFound"));
    eventually("the victim's event", || {
        let events = ns.kubectl(&["get", "events", "--field-selector", "reason=Preempted"])?;
        ensure(events.contains("pod/lesser") && events.contains("Preempted by pod "), || events.clone())
    });
}

#[test]
fn the_systems_own_priorities_are_there_and_stay() {
    let ns = Namespace::new("classes");
    for (name, value) in [("system-node-critical", "2000001000"), ("system-cluster-critical", "2000000000")] {
        assert_eq!(ns.path(&["priorityclass", name], "{.value}").unwrap(), value);
        let refused = ns.refused(&["delete", "priorityclass", name]);
        assert!(refused.contains("this is a system priority class and cannot be deleted"), "{refused}");
    }
    let class = PriorityClass::new(&ns, "mine", 5, "PreemptLowerPriority");
    let refused = ns.refused(&["patch", "priorityclass", &class.0, "-p", r#"{"value": 6}"#]);
    assert!(refused.contains("value") && refused.contains("immutable"), "{refused}");
}
