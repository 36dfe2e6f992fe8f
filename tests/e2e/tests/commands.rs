//! The commands of kubectl that no other file uses.

use kybern_e2e::{Kubectl, Namespace, Scratch, ensure, eventually, fetch, free_port, run, shell, web};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

fn config_map(value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: c }}\ndata: {{ a: \"{value}\" }}\n")
}

#[test]
fn apply_on_the_server_tells_conflicts_and_takes_over() {
    let ns = Namespace::new("serverside");
    let apply = |manager: &str, value: &str, more: &[&str]| {
        let manager = format!("--field-manager={manager}");
        let mut args = vec!["apply", "--server-side", &manager, "-f", "-"];
        args.extend_from_slice(more);
        ns.client().output(&args, Some(&config_map(value))).expect("kubectl")
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&apply("first", "1", &[]).stdout).trim(), "configmap/c serverside-applied");
    let conflict = apply("second", "2", &[]);
    let told = text(&conflict.stderr);
    assert_eq!(conflict.status.code(), Some(1));
    for words in ["Apply failed with 1 conflict: conflict with \"first\": .data.a", "--force-conflicts"] {
        assert!(told.contains(words), "{words} in\n{told}");
    }
    assert!(apply("second", "2", &["--force-conflicts"]).status.success());
    let managers = ns.say(&[
        "get",
        "configmap",
        "c",
        "--show-managed-fields",
        "-o",
        "jsonpath={.metadata.managedFields[*].manager}",
    ]);
    assert!(managers.split(' ').any(|m| m == "second"), "{managers}");
    let diff =
        ns.client().output(&["diff", "--server-side", "--field-manager=second", "-f", "-"], Some(&config_map("3")));
    let diff = diff.expect("kubectl");
    assert_eq!(diff.status.code(), Some(1), "{}", text(&diff.stderr));
    assert!(text(&diff.stdout).contains("+  a: \"3\""), "{}", text(&diff.stdout));
    // From apply on the client to apply on the server, and what is left out goes.
    ns.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: { name: d }\ndata: { a: \"1\", b: \"2\" }\n");
    let without = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: d }\ndata: { a: \"1\" }\n";
    ns.kubectl_with(&["apply", "--server-side", "-f", "-"], without).expect("apply");
    assert_eq!(ns.path(&["configmap", "d"], "{.data}").expect("data"), r#"{"a":"1"}"#);
}

#[test]
fn what_was_applied_last_is_viewed_and_set() {
    let ns = Namespace::new("lastapplied");
    ns.apply(&config_map("1"));
    let view = ns.say(&["apply", "view-last-applied", "configmap", "c"]);
    assert!(view.contains("a: \"1\""), "{view}");
    let dir = Scratch::new("lastapplied");
    let file = dir.file("c.yaml");
    std::fs::write(&file, config_map("2")).expect("a file");
    assert_eq!(ns.say(&["apply", "set-last-applied", "-f", &file]), "configmap/c configured");
    assert!(ns.say(&["apply", "view-last-applied", "configmap", "c"]).contains("a: \"2\""));
    assert_eq!(ns.path(&["configmap", "c"], "{.data.a}").expect("data"), "1", "the object itself stays");
    let edit = ns
        .client()
        .variable("KUBE_EDITOR", "sed -i /a:/s/2/3/")
        .run(&["apply", "edit-last-applied", "configmap", "c"], None);
    assert!(edit.expect("edit").contains("configmap/c edited"));
}

#[test]
fn apply_prunes_what_is_no_longer_said() {
    let ns = Namespace::new("prune");
    let labelled = |name: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {name}, labels: {{ set: a }} }}\n---\n")
    };
    ns.apply(&(labelled("keep") + &labelled("drop")));
    let args = ["apply", "--prune", "-l", "set=a", "--prune-allowlist=core/v1/ConfigMap", "-f", "-"];
    let said = ns.kubectl_with(&args, &labelled("keep")).expect("apply");
    assert!(said.contains("configmap/keep unchanged") && said.contains("configmap/drop pruned"), "{said}");
    assert_eq!(ns.say(&["get", "configmap", "-l", "set=a", "-o", "name"]), "configmap/keep");
}

#[test]
fn set_changes_one_part_of_an_object() {
    let ns = Namespace::new("set");
    ns.apply(&web("web", 0));
    ns.say(&["create", "serviceaccount", "robot"]);
    ns.say(&["expose", "deployment/web", "--port=80"]);
    ns.say(&["create", "role", "reader", "--verb=get", "--resource=pods"]);
    ns.say(&["create", "rolebinding", "reader", "--role=reader", "--user=jane"]);
    let done = |args: &[&str], said: &str| assert_eq!(ns.say(args), said);
    done(
        &["set", "resources", "deployment/web", "--limits=cpu=200m,memory=64Mi", "--requests=cpu=100m"],
        "deployment.apps/web resource requirements updated",
    );
    done(&["set", "serviceaccount", "deployment/web", "robot"], "deployment.apps/web serviceaccount updated");
    done(&["set", "selector", "service/web", "app=web,tier=front"], "service/web selector updated");
    done(
        &["set", "subject", "rolebinding/reader", "--serviceaccount=default:robot"],
        "rolebinding.rbac.authorization.k8s.io/reader subjects updated",
    );
    done(&["set", "image", "deployment/web", "web=kybern.local/web:2"], "deployment.apps/web image updated");
    let path = |what: &str, path: &str| ns.path(&[what], path).expect("a value");
    let container = "{.spec.template.spec.containers[0]";
    assert_eq!(
        path("deployment/web", &format!("{container}.resources}}")),
        r#"{"limits":{"cpu":"200m","memory":"64Mi"},"requests":{"cpu":"100m"}}"#
    );
    assert_eq!(path("deployment/web", "{.spec.template.spec.serviceAccountName}"), "robot");
    assert_eq!(path("service/web", "{.spec.selector}"), r#"{"app":"web","tier":"front"}"#);
    assert_eq!(path("rolebinding/reader", "{.subjects[*].name}"), "jane robot");
    assert_eq!(path("deployment/web", &format!("{container}.image}}")), "kybern.local/web:2");
}

#[test]
fn a_pod_is_run_from_the_command_line() {
    let ns = Namespace::new("run");
    let image = "--image=kybern.local/web:1";
    // It says what it is told: what it said before somebody listened would be lost.
    let args = ["run", "once", image, "--restart=Never", "--rm", "--stdin", "--quiet", "--", "cat"];
    let said = ns.kubectl_with(&args, "said\n").expect("run");
    assert!(said.contains("said"), "{said}");
    assert_eq!(
        ns.say(&["run", "stays", image, "--port=8080", "--labels=app=stays", "--expose"]),
        "service/stays created\npod/stays created"
    );
    ns.ready("stays");
    assert_eq!(ns.path(&["service", "stays"], "{.spec.ports[0].port}").expect("a port"), "8080");
    let dry = ns.say(&["run", "dry", image, "--dry-run=server", "-o", "jsonpath={.status.phase}"]);
    assert_eq!(dry, "Pending");
    let events = ns.say(&["events", "--for", "pod/stays", "--types=Normal"]);
    assert!(events.contains("Scheduled") && events.contains("Started"), "{events}");
}

#[test]
fn a_proxy_serves_the_api_and_what_is_behind_it() {
    let ns = Namespace::new("proxy");
    ns.apply(&web("web", 1));
    ns.rolled_out("web");
    ns.say(&["expose", "deployment/web", "--port=80", "--target-port=8080"]);
    let port = free_port();
    let proxy = ns.background(&["proxy", &format!("--port={port}")]);
    let at = |path: &str| {
        let url = format!("http://127.0.0.1:{port}{path}");
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "5", &url])
            .output()
            .expect("curl");
        ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let version = eventually("the proxy listens", || at("/version"));
    assert!(version.contains("gitVersion"), "{version}");
    let direct =
        eventually("the pod's page", || at(&format!("/api/v1/namespaces/{}/services/web:80/proxy/", ns.name())));
    assert!(!direct.is_empty());
    assert!(at("/api/v1/namespaces/none/pods/x").is_err(), "404 stays an error");
    drop(proxy);
    assert!(fetch("127.0.0.1", port).is_err(), "it has ended");
}

#[test]
fn roles_are_reconciled_and_say_who_asks() {
    let ns = Namespace::new("reconcile");
    let roles = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{ name: reader, namespace: {} }}\nrules:\n- {{ apiGroups: [''], resources: [pods], verbs: [get] }}\n",
        ns.name()
    );
    let once = |text: &str| {
        let output = ns.client().output(&["auth", "reconcile", "-f", "-"], Some(text)).expect("kubectl");
        (
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(once(&roles).0, "role.rbac.authorization.k8s.io/reader reconciled");
    let (_, told) = once(&roles.replace("[get]", "[list]"));
    assert!(told.contains("missing rules added") && told.contains("Verbs:[list]"), "{told}");
    let verbs = ns.path(&["role", "reader"], "{.rules[*].verbs}").expect("verbs");
    assert!(verbs.contains("get") && verbs.contains("list"), "nothing is taken away: {verbs}");
    let me = run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.groups}"], None).expect("whoami");
    assert!(me.contains("system:authenticated"), "{me}");
    let as_jane = run(&["auth", "whoami", "--as=jane", "--as-group=staff"], None).expect("whoami");
    assert!(as_jane.contains("jane") && as_jane.contains("staff"), "{as_jane}");
}

#[test]
fn kustomizations_are_built_applied_and_deleted() {
    let ns = Namespace::new("kustomize");
    let dir = Scratch::new("kustomize");
    std::fs::write(dir.file("c.yaml"), config_map("1")).expect("a file");
    std::fs::write(
        dir.file("kustomization.yaml"),
        "resources: [c.yaml]\nnamePrefix: my-\nlabels: [{ pairs: { by: kustomize } }]\n",
    )
    .expect("a file");
    let at = dir.file("");
    let built = run(&["kustomize", &at], None).expect("built");
    assert!(built.contains("name: my-c") && built.contains("by: kustomize"), "{built}");
    assert_eq!(ns.say(&["apply", "-k", &at]), "configmap/my-c created");
    assert_eq!(ns.say(&["get", "-k", &at, "-o", "name"]), "configmap/my-c");
    let gone = ns.say(&["delete", "-k", &at]);
    assert!(gone.starts_with("configmap \"my-c\" deleted"), "{gone}");
}

#[test]
fn waiting_is_for_conditions_values_creation_and_the_end() {
    let ns = Namespace::new("wait");
    let waiter = ns.background(&["wait", "--for=create", "configmap/c", "--timeout=30s"]);
    ns.apply(&config_map("1"));
    eventually("the wait for its creation ends", || {
        ensure(waiter.so_far().contains("configmap/c condition met"), || waiter.so_far())
    });
    assert_eq!(
        ns.say(&["wait", "--for=jsonpath={.data.a}=1", "configmap/c", "--timeout=10s"]),
        "configmap/c condition met"
    );
    ns.apply(&shell("short", "exit 0"));
    assert_eq!(
        ns.say(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/short", "--timeout=60s"]),
        "pod/short condition met"
    );
    let never = ns.refused(&["wait", "--for=condition=Ready", "pod/short", "--timeout=1s"]);
    assert!(never.contains("timed out waiting for the condition"), "{never}");
    let end = ns.background(&["wait", "--for=delete", "configmap/c", "--timeout=30s"]);
    std::thread::sleep(Duration::from_millis(300));
    ns.say(&["delete", "configmap", "c"]);
    eventually("the wait for its end ends", || {
        ensure(end.so_far().contains("configmap/c condition met"), || end.so_far())
    });
}

#[test]
fn the_cluster_is_dumped_and_nodes_are_cordoned() {
    let ns = Namespace::new("dump");
    ns.apply(&shell("talks", "echo heard; sleep 600"));
    ns.ready("talks");
    let dir = Scratch::new("dump");
    let to = dir.file("all");
    run(&["cluster-info", "dump", "--namespaces", ns.name(), "--output-directory", &to], None).expect("a dump");
    let read = |name: &str| std::fs::read_to_string(format!("{to}/{name}")).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(read("nodes.json").contains("\"NodeList\"") || read("nodes.json").contains("\"kind\": \"Node\""));
    assert!(read(&format!("{}/pods.json", ns.name())).contains("talks"));
    assert!(read(&format!("{}/talks/logs.txt", ns.name())).contains("heard"));
    let node = run(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"], None).expect("a node");
    assert_eq!(run(&["cordon", &node], None).expect("cordon").trim(), format!("node/{node} cordoned"));
    let shown = run(&["get", "node", &node, "--no-headers"], None).expect("a row");
    let back = run(&["uncordon", &node], None).expect("uncordon");
    assert!(shown.contains("SchedulingDisabled"), "{shown}");
    assert_eq!(back.trim(), format!("node/{node} uncordoned"));
}

#[test]
fn completions_come_from_the_cluster() {
    let ns = Namespace::new("completion");
    ns.say(&["create", "configmap", "completed"]);
    let complete = |words: &[&str]| {
        let mut args = vec!["__complete", "--namespace", ns.name()];
        args.extend_from_slice(words);
        run(&args, None).expect("completions")
    };
    assert!(complete(&["get", "configmap", "comp"]).lines().any(|l| l == "completed"));
    assert!(complete(&["get", "confi"]).lines().any(|l| l.starts_with("configmaps")));
    assert!(run(&["completion", "bash"], None).expect("a script").contains("__start_kubectl"));
    assert!(run(&["options"], None).expect("options").contains("--kubeconfig"));
}

#[test]
fn a_plugin_reaches_the_cluster() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Scratch::new("plugin");
    let file = dir.file("kubectl-hello");
    std::fs::write(&file, "#!/bin/sh\nexec \"$KUBECTL_UNDER_TEST\" get namespace default -o name\n").expect("a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let path = format!("{}:{}", dir.file(""), std::env::var("PATH").unwrap_or_default());
    let client = Kubectl::new().variable("PATH", &path).variable("KUBECTL_UNDER_TEST", &kybern_e2e::kubectl_program());
    assert!(client.run(&["plugin", "list"], None).expect("plugins").contains("kubectl-hello"));
    assert_eq!(client.run(&["hello"], None).expect("the plugin").trim(), "namespace/default");
}

#[test]
fn explain_reads_every_version_and_form() {
    let old = run(&["explain", "hpa.spec", "--api-version=autoscaling/v1"], None).expect("explain");
    assert!(old.contains("targetCPUUtilizationPercentage"), "{old}");
    let new = run(&["explain", "hpa.spec"], None).expect("explain");
    assert!(new.contains("metrics\t<[]MetricSpec>"), "{new}");
    let list = run(&["api-resources", "--verbs=list", "--no-headers"], None).expect("resources");
    // A kind of each group: its whole tree.
    let mut groups = BTreeMap::new();
    for line in list.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Resource metrics are another server's, which has documents of its own.
        if let [plural, .., version, _, kind] = words[..]
            && !version.starts_with("metrics.k8s.io")
        {
            groups.insert(version, (plural, kind));
        }
    }
    assert!(groups.len() > 10, "{groups:?}");
    for (version, (plural, kind)) in groups {
        let tree = run(&["explain", plural, "--recursive", "--api-version", version], None)
            .unwrap_or_else(|e| panic!("{plural}: {e:#}"));
        assert!(
            tree.contains(&format!("KIND:       {kind}")) && tree.contains("  metadata\t<ObjectMeta>"),
            "{plural}:\n{tree}"
        );
    }
}
