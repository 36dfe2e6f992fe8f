//! kubectl get in all its forms, and describe.

use kybern_e2e::{Namespace, cells, ensure, eventually, run, shell, web};

fn config_map(name: &str, tier: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {name}, labels: {{ tier: {tier} }} }}\ndata: {{ a: \"1\" }}\n---\n"
    )
}

#[test]
fn get_prints_what_each_format_and_selector_asks_for() {
    let ns = Namespace::new("formats");
    ns.apply(&(config_map("one", "front") + &config_map("two", "back")));
    let names = |args: &[&str]| {
        let mut all = vec!["get", "configmap", "-o", "name"];
        all.extend_from_slice(args);
        ns.say(&all)
    };
    assert_eq!(names(&["-l", "tier=front"]), "configmap/one");
    assert_eq!(names(&["-l", "tier in (front,back)"]), "configmap/one\nconfigmap/two");
    assert_eq!(names(&["-l", "tier,tier!=front"]), "configmap/two");
    assert_eq!(names(&["-l", "tier=z"]), "");
    assert_eq!(names(&["--field-selector", "metadata.name=two"]), "configmap/two");

    let yaml = ns.say(&["get", "configmap", "one", "-o", "yaml"]);
    for line in ["apiVersion: v1", "kind: ConfigMap", "  a: \"1\"", "  name: one", "    tier: front"] {
        assert!(yaml.lines().any(|l| l == line), "{line:?} in\n{yaml}");
    }
    let list = ns.get(&["configmap", "-l", "tier"]).unwrap();
    assert_eq!((list["kind"].as_str(), list["items"].as_array().map(Vec::len)), (Some("List"), Some(2)));
    assert_eq!(list["items"][0]["kind"], "ConfigMap");
    assert_eq!(ns.path(&["configmap", "-l", "tier"], "{.items[*].metadata.labels.tier}").unwrap(), "front back");
    let table =
        ns.say(&["get", "configmap", "-l", "tier", "-o", "custom-columns=N:.metadata.name,A:.data.a,B:.data.b"]);
    assert_eq!(
        table.lines().map(cells).collect::<Vec<_>>(),
        [["N", "A", "B"], ["one", "1", "<none>"], ["two", "1", "<none>"]]
    );
    let labelled = ns.say(&["get", "configmap", "-L", "tier", "--sort-by", "{.metadata.labels.tier}", "-l", "tier"]);
    let tiers: Vec<_> = labelled.lines().map(|l| l.split_whitespace().last().unwrap()).collect();
    assert_eq!(tiers, ["TIER", "back", "front"]);
    let everywhere = run(&["get", "configmap", "-A", "-l", "tier=front"], None).unwrap();
    assert_eq!(cells(everywhere.lines().next().unwrap()), ["NAMESPACE", "NAME", "DATA", "AGE"]);
    assert!(everywhere.lines().any(|l| cells(l).starts_with(&[ns.name(), "one", "1"])), "{everywhere}");
}

#[test]
fn the_columns_are_kubernetes() {
    let ns = Namespace::new("columns");
    ns.apply(&web("web", 1));
    ns.apply("apiVersion: v1\nkind: Service\nmetadata: { name: web }\nspec: { selector: { app: web }, ports: [{ port: 80, targetPort: http }] }\n");
    ns.rolled_out("web");
    let expected: [(&[&str], &[&str]); 9] = [
        (&["pods"], &["NAME", "READY", "STATUS", "RESTARTS", "AGE"]),
        (
            &["pods", "-o", "wide"],
            &["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"],
        ),
        (&["deployments"], &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]),
        (
            &["deployments", "-o", "wide"],
            &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"],
        ),
        (&["replicasets"], &["NAME", "DESIRED", "CURRENT", "READY", "AGE"]),
        (&["services"], &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]),
        (&["endpointslices"], &["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]),
        (&["nodes"], &["NAME", "STATUS", "ROLES", "AGE", "VERSION"]),
        (&["namespaces"], &["NAME", "STATUS", "AGE"]),
    ];
    for (what, columns) in expected {
        let mut args = vec!["get"];
        args.extend_from_slice(what);
        let table = ns.say(&args);
        assert_eq!(cells(table.lines().next().unwrap()), columns, "{what:?}");
        let rows = table.lines().skip(1).filter(|l| cells(l).len() == columns.len()).count();
        assert_eq!(rows, table.lines().count() - 1, "every cell is filled:\n{table}");
    }
    let pod = ns.say(&["get", "pods", "--no-headers"]);
    assert!(cells(&pod)[0].starts_with("web-") && cells(&pod)[1..4] == ["1/1", "Running", "0"], "{pod}");
    let service = ns.say(&["get", "service", "web", "--no-headers"]);
    let service = cells(&service);
    assert!(service[2].starts_with("10.43."), "{service:?}");
    assert_eq!((service[1], service[3], service[4]), ("ClusterIP", "<none>", "80/TCP"));
    let deployment = ns.say(&["get", "deployment", "web", "--no-headers"]);
    assert_eq!(cells(&deployment)[..4], ["web", "1/1", "1", "1"]);
}

#[test]
fn a_watch_shows_each_change_as_it_happens() {
    let ns = Namespace::new("watch");
    let watch = ns.background(&["get", "pods", "-w", "--output-watch-events"]);
    ns.apply(&shell("p", "sleep 3600"));
    ns.ready("p");
    ns.apply(&shell("p", "sleep 3600").replace("labels: { app: p }", "labels: { app: p, more: z }"));
    ns.say(&["delete", "pod", "p"]);
    let seen = |event: &str, status: &str| {
        eventually("the watch tells", || {
            let text = watch.so_far();
            let told = text.lines().any(|l| cells(l).first() == Some(&event) && cells(l).get(3) == Some(&status));
            ensure(told, || format!("no {event} with {status} in\n{text}"))
        });
    };
    seen("ADDED", "Pending");
    seen("MODIFIED", "Running");
    seen("MODIFIED", "Terminating");
    eventually("the end is told", || ensure(watch.so_far().contains("DELETED"), || watch.so_far()));
    let rows = watch.finish();
    assert_eq!(cells(rows.lines().next().unwrap()), ["EVENT", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
}

#[test]
fn describe_tells_the_story_of_a_workload() {
    let ns = Namespace::new("describe");
    ns.apply(&web("web", 1));
    ns.apply("apiVersion: v1\nkind: Service\nmetadata: { name: web }\nspec: { selector: { app: web }, ports: [{ port: 80, targetPort: http }] }\n");
    ns.rolled_out("web");
    let pod = ns.path(&["pods", "-l", "app=web"], "{.items[0].metadata.name}").unwrap();
    let ip = ns.path(&["pod", &pod], "{.status.podIP}").unwrap();
    let has = |text: &str, wanted: &[&[&str]]| {
        for words in wanted {
            let line = |l: &str| l.split_whitespace().collect::<Vec<_>>().windows(words.len()).any(|w| w == *words);
            assert!(text.lines().any(line), "{words:?} in\n{text}");
        }
    };
    // Events are written beside the work: the last of them may come after the pod is ready.
    let described = eventually("the events of scheduler and agent", || {
        let text = ns.kubectl(&["describe", "pod", &pod])?;
        let told: Vec<_> = text.lines().map(cells).filter(|c| c.first() == Some(&"Normal")).map(|c| c[1]).collect();
        ensure(["Scheduled", "Pulled", "Created", "Started"].iter().all(|r| told.contains(r)), || text.clone())?;
        Ok(text)
    });
    has(
        &described,
        &[
            &["Name:", &pod],
            &["Status:", "Running"],
            &["IP:", &ip],
            &["Image:", "kybern.local/web:1"],
            &["State:", "Running"],
            &["Ready:", "True"],
            &["PodScheduled", "True"],
            &["QoS", "Class:", "BestEffort"],
            &["default-scheduler", "Successfully", "assigned"],
            &["kubelet"],
        ],
    );
    has(
        &ns.say(&["describe", "deployment", "web"]),
        &[
            &["Replicas:", "1", "desired", "|", "1", "updated", "|", "1", "total", "|", "1", "available"],
            &["StrategyType:", "RollingUpdate"],
            &["Available", "True", "MinimumReplicasAvailable"],
            &["Progressing", "True", "NewReplicaSetAvailable"],
            &["ScalingReplicaSet"],
        ],
    );
    let endpoint = format!("{ip}:8080");
    eventually("the service has its endpoint", || {
        let text = ns.kubectl(&["describe", "service", "web"])?;
        ensure(text.contains(&endpoint), || text.clone())
    });
    has(
        &ns.say(&["describe", "service", "web"]),
        &[&["Selector:", "app=web"], &["Type:", "ClusterIP"], &["Endpoints:", &endpoint], &["TargetPort:", "http/TCP"]],
    );
    let node = ns.path(&["pod", &pod], "{.spec.nodeName}").unwrap();
    has(
        &run(&["describe", "node", &node], None).unwrap(),
        &[
            &["Name:", &node],
            &["Ready", "True"],
            &["MemoryPressure", "False"],
            &["Unschedulable:", "false"],
            &["InternalIP:"],
            &["pods:", "110"],
            &[ns.name(), &pod],
        ],
    );
}
