//! How things end: pods within their grace, namespaces with all they hold; and the events told meanwhile.

use kybern_e2e::{Namespace, ensure, eventually, run, shell};
use std::time::{Duration, Instant};

#[test]
fn a_pod_is_asked_to_end_and_leaves_at_once_when_it_does() {
    let ns = Namespace::new("graceful");
    let manifest = shell("polite", "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.1; done");
    ns.apply(&manifest.replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 30"));
    eventually("it listens", || ensure(ns.kubectl(&["logs", "polite"])?.contains("up"), String::new));
    let follow = ns.background(&["logs", "-f", "polite"]);
    eventually("the log is followed", || ensure(follow.so_far().contains("up"), || follow.so_far()));
    let begun = Instant::now();
    ns.say(&["delete", "pod", "polite"]);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(15), "it ended when asked, not when its grace was over: {took:?}");
    eventually("its last words", || ensure(follow.so_far().contains("asked"), || follow.so_far()));
}

#[test]
fn a_pod_that_does_not_listen_is_killed_when_its_grace_is_over() {
    let ns = Namespace::new("deaf");
    let manifest = shell("deaf", "trap '' TERM; echo up; while :; do sleep 0.1; done");
    ns.apply(&manifest.replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 3"));
    eventually("it ignores", || ensure(ns.kubectl(&["logs", "deaf"])?.contains("up"), String::new));
    let begun = Instant::now();
    ns.say(&["delete", "pod", "deaf", "--wait=false"]);
    let grace = ns.path(&["pod", "deaf"], "{.metadata.deletionGracePeriodSeconds}").unwrap();
    assert_eq!(grace, "3");
    eventually("it goes", || ensure(ns.kubectl(&["get", "pods", "-o", "name"])?.is_empty(), || "still there".into()));
    let took = begun.elapsed();
    assert!((Duration::from_millis(2500)..Duration::from_secs(20)).contains(&took), "{took:?}");
}

#[test]
fn a_forced_deletion_does_not_wait() {
    let ns = Namespace::new("force");
    ns.apply(&shell("p", "trap '' TERM; while :; do sleep 1; done").replace("Seconds: 1", "Seconds: 600"));
    ns.ready("p");
    ns.say(&["delete", "pod", "p", "--force", "--grace-period=0"]);
    assert!(ns.refused(&["get", "pod", "p"]).contains("(NotFound)"));
}

#[test]
fn a_namespace_takes_all_it_holds_with_it() {
    let ns = Namespace::new("emptied");
    ns.apply(&kybern_e2e::web("web", 2));
    ns.say(&["create", "configmap", "c"]);
    ns.rolled_out("web");
    let begun = Instant::now();
    let said = run(&["delete", "namespace", ns.name(), "--timeout=60s"], None).unwrap();
    assert!(said.starts_with(&format!("namespace \"{}\" deleted", ns.name())), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(ns.say(&["get", "pods,configmaps,deployments,replicasets", "-o", "name"]), "");
    let refused = ns.refused(&["create", "configmap", "late"]);
    assert!(refused.contains("not found"), "{refused}");
}

#[test]
fn events_tell_what_happened_and_can_be_selected() {
    let ns = Namespace::new("events");
    ns.apply(&shell("p", "exit 0"));
    eventually("it is over", || {
        let phase = ns.path(&["pod", "p"], "{.status.phase}")?;
        ensure(phase == "Succeeded", || phase.clone())
    });
    let reasons = |selector: &str| ns.path(&["events", "--field-selector", selector], "{.items[*].reason}");
    eventually("scheduler and agent tell", || {
        let told = reasons("involvedObject.name=p")?;
        ensure(["Scheduled", "Pulled", "Created", "Started"].iter().all(|r| told.contains(r)), || told.clone())
    });
    assert_eq!(reasons("involvedObject.name=p,reason=Started").unwrap(), "Started");
    assert_eq!(reasons("involvedObject.name=nobody").unwrap(), "");
    let table = ns.say(&["events", "--for", "pod/p"]);
    assert!(table.contains("Pod/p") && table.contains("Successfully assigned"), "{table}");
}
