//! The client of Debian 12, kubectl 1.20, does its daily work too. `KUBECTL_OLD` names it.

use kybern_e2e::{Kubectl, Namespace, cells, shell, web};

/// The old client, unless this machine has none.
fn old() -> Option<String> {
    let program = std::env::var("KUBECTL_OLD").ok().filter(|p| std::path::Path::new(p).exists());
    if program.is_none() {
        eprintln!("skipped: no kubectl 1.20 here (KUBECTL_OLD names it; tests/e2e/run.sh fetches Debian's)");
    }
    program
}

#[test]
fn the_old_client_reads_and_writes() {
    let Some(program) = old() else { return };
    let ns = Namespace::new("old");
    let client = ns.client().by(&program);
    let say = |args: &[&str]| client.run(args, None).unwrap().trim_end().to_owned();
    assert!(say(&["version", "--short"]).contains("Server Version: v1.36"));
    assert!(say(&["api-resources"]).contains("deployments"));
    assert!(say(&["explain", "deployment.spec.replicas"]).contains("FIELD:    replicas <integer>"));
    assert_eq!(client.run(&["apply", "-f", "-"], Some(&web("web", 1))).unwrap().trim(), "deployment.apps/web created");
    assert_eq!(
        client.run(&["apply", "-f", "-"], Some(&web("web", 2))).unwrap().trim(),
        "deployment.apps/web configured"
    );
    assert!(say(&["rollout", "status", "deployment/web"]).ends_with("successfully rolled out"));
    let table = say(&["get", "pods"]);
    assert_eq!(cells(table.lines().next().unwrap()), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(table.lines().filter(|l| cells(l)[1..3] == ["1/1", "Running"]).count(), 2, "{table}");
    assert!(say(&["describe", "deployment", "web"]).contains("2 desired | 2 updated | 2 total"));
    assert_eq!(say(&["scale", "deployment/web", "--replicas=1"]), "deployment.apps/web scaled");
    assert_eq!(say(&["label", "deployment/web", "tier=x"]), "deployment.apps/web labeled");
    assert_eq!(
        say(&["patch", "deployment", "web", "-p", r#"{"spec":{"paused":true}}"#]),
        "deployment.apps/web patched"
    );
    assert_eq!(say(&["create", "configmap", "c", "--from-literal=a=1"]), "configmap/c created");
    assert_eq!(say(&["auth", "can-i", "create", "pods"]), "yes");
    assert!(say(&["delete", "deployment", "web"]).starts_with("deployment.apps \"web\" deleted"));
    assert!(Kubectl::new().by(&program).run(&["get", "nodes"], None).unwrap().contains("Ready"));
}

#[test]
fn the_old_client_streams() {
    let Some(program) = old() else { return };
    let ns = Namespace::new("oldstream");
    ns.apply(&shell("p", "echo up; sleep 3600"));
    ns.ready("p");
    let client = ns.client().by(&program);
    assert_eq!(client.run(&["logs", "p"], None).unwrap(), "up\n");
    assert_eq!(client.run(&["exec", "-i", "p", "--", "cat"], Some("there and back")).unwrap(), "there and back");
    let (shown, code) =
        client.on_terminal((100, 30), &["exec", "-it", "p", "--", "sh"], "echo $((6*7)); exit 3\n").unwrap();
    assert!(shown.contains("42") && code != 0, "{code}: {shown}");
    let scratch = kybern_e2e::Scratch::new("oldcp");
    std::fs::write(scratch.file("f"), "by tar").unwrap();
    client.run(&["cp", &scratch.file("f"), "p:/tmp/f"], None).unwrap();
    assert_eq!(client.run(&["exec", "p", "--", "cat", "/tmp/f"], None).unwrap(), "by tar");
}
