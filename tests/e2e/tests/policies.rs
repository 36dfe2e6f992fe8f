//! What keeps others from harm: disruption budgets and drains, quotas, autoscaling's bounds, deletion with
//! or without what is owned, and endpoints kept by hand.

use kybern_e2e::{Namespace, cells, ensure, eventually, run, web};

/// A node that takes pods again when the test ends, however it ends.
struct Cordoned(String);

impl Drop for Cordoned {
    fn drop(&mut self) {
        let said = run(&["uncordon", &self.0], None);
        assert!(said.is_ok() || std::thread::panicking(), "{said:?}");
    }
}

#[test]
fn a_drain_asks_the_budget_and_a_cordon_shows() {
    let ns = Namespace::new("drain");
    ns.apply(&web("web", 2));
    ns.say(&["create", "poddisruptionbudget", "web", "--selector=app=web", "--max-unavailable=0"]);
    ns.rolled_out("web");
    eventually("the budget counts", || {
        let healthy = ns.path(&["pdb", "web"], "{.status.currentHealthy} {.status.disruptionsAllowed}")?;
        ensure(healthy == "2 0", || healthy.clone())
    });
    let node = ns.path(&["pods", "-l", "app=web"], "{.items[0].spec.nodeName}").unwrap();
    let _open_again = Cordoned(node.clone());
    let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=app=web"];
    let refused = ns.refused(&[&drain[..], &["--timeout=3s"]].concat());
    assert!(refused.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{refused}");
    let shown = run(&["get", "node", &node], None).unwrap();
    assert!(cells(shown.lines().nth(1).unwrap())[1].ends_with("SchedulingDisabled"), "{shown}");

    ns.say(&["patch", "pdb", "web", "--type=merge", "-p", r#"{"spec":{"maxUnavailable":"100%"}}"#]);
    eventually("the budget is loosened", || {
        let allowed = ns.path(&["pdb", "web"], "{.status.disruptionsAllowed}")?;
        ensure(allowed == "2", || allowed.clone())
    });
    let said = ns.say(&[&drain[..], &["--timeout=60s"]].concat());
    assert!(said.contains("evicted") && said.ends_with("drained"), "{said}");
    assert_eq!(run(&["uncordon", &node], None).unwrap().trim_end(), format!("node/{node} uncordoned"));
    ns.rolled_out("web");
}

#[test]
fn taints_are_set_and_taken_away() {
    let node = run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"], None).unwrap();
    let key = format!("e2e-{}", std::process::id());
    let taint = |argument: &str| run(&["taint", "nodes", &node, argument], None).unwrap().trim_end().to_owned();
    assert_eq!(taint(&format!("{key}=x:PreferNoSchedule")), format!("node/{node} tainted"));
    let shown = run(&["describe", "node", &node], None).unwrap();
    assert!(shown.contains(&format!("{key}=x:PreferNoSchedule")), "{shown}");
    assert_eq!(taint(&format!("{key}-")), format!("node/{node} untainted"));
}

#[test]
fn a_quota_bounds_a_namespace() {
    let ns = Namespace::new("quota");
    ns.say(&["create", "quota", "q", "--hard=pods=1,count/configmaps=3"]);
    eventually("its use is shown", || {
        let used = ns.path(&["quota", "q"], "{.status.used.pods} {.status.used.count/configmaps}")?;
        // The namespace's own certificate is one.
        ensure(used == "0 1", || used.clone())
    });
    ns.apply(&web("web", 2));
    eventually("one pod is made and one refused", || {
        let told = ns.kubectl(&["get", "events", "--field-selector=reason=FailedCreate"])?;
        ensure(told.contains("exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"), || told.clone())
    });
    ns.say(&["create", "configmap", "a"]);
    ns.say(&["create", "configmap", "b"]);
    let refused = ns.refused(&["create", "configmap", "c"]);
    let text =
        "exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=3, limited: count/configmaps=3";
    assert!(refused.contains("(Forbidden)") || refused.contains("forbidden"), "{refused}");
    assert!(refused.contains(text), "{refused}");
    ns.say(&["delete", "configmap", "a"]);
    ns.say(&["create", "configmap", "c"]);
}

#[test]
fn an_autoscaler_keeps_its_bounds_and_says_what_it_lacks() {
    let ns = Namespace::new("autoscale");
    ns.apply(&web("web", 1));
    let said = ns.say(&["autoscale", "deployment", "web", "--min=2", "--max=4", "--cpu-percent=50"]);
    assert_eq!(said, "horizontalpodautoscaler.autoscaling/web autoscaled");
    eventually("the minimum is kept", || {
        let size = ns.path(&["deployment", "web"], "{.spec.replicas}")?;
        ensure(size == "2", || size.clone())
    });
    let condition = |kind: &str| {
        let path = format!("{{range .status.conditions[?(@.type==\"{kind}\")]}}{{.status}} {{.reason}}{{end}}");
        ns.path(&["hpa", "web"], &path)
    };
    eventually("it reads its target's scale", || {
        let able = condition("AbleToScale")?;
        ensure(able.starts_with("True "), || able.clone())
    });
    let shown = ns.say(&["get", "hpa", "web"]);
    let row = cells(shown.lines().nth(1).unwrap()).join(" ");
    assert!(row.starts_with("web Deployment/web cpu:"), "{shown}");
    assert!(row.contains("/50% 2 4"), "{shown}");
}

#[test]
fn what_is_owned_stays_or_goes_first_as_asked() {
    let ns = Namespace::new("cascade");
    ns.apply(&web("web", 1));
    ns.rolled_out("web");
    ns.say(&["delete", "deployment", "web", "--cascade=orphan"]);
    let owners = ns.path(&["replicasets", "-l", "app=web"], "{.items[*].metadata.ownerReferences}").unwrap();
    assert_eq!(owners, "", "the set lives on by itself");
    let set = ns.say(&["get", "replicasets", "-l", "app=web", "-o", "name"]);
    assert_eq!(set.lines().count(), 1, "{set}");
    ns.say(&["delete", &set, "--cascade=foreground"]);
    assert_eq!(ns.say(&["get", "pods", "-l", "app=web", "-o", "name"]), "", "its pods went first");
}

#[test]
fn endpoints_kept_by_hand_become_slices() {
    let ns = Namespace::new("mirror");
    ns.apply(
        r#"
apiVersion: v1
kind: Service
metadata: { name: db }
spec: { ports: [{ port: 5432 }] }
---
apiVersion: v1
kind: Endpoints
metadata: { name: db }
subsets: [{ addresses: [{ ip: 192.0.2.7 }], ports: [{ port: 5432 }] }]
"#,
    );
    let slice = ["endpointslices", "-l", "kubernetes.io/service-name=db"];
    eventually("they are mirrored", || {
        let shown = ns.path(&slice, "{.items[*].endpoints[*].addresses[0]} {.items[*].ports[*].port}")?;
        ensure(shown == "192.0.2.7 5432", || shown.clone())
    });
    ns.say(&["delete", "endpoints", "db"]);
    eventually("and their slices go with them", || {
        let left = ns.path(&slice, "{.items[*].metadata.name}")?;
        ensure(left.is_empty(), || left.clone())
    });
}
