//! What is written through one server holds at once through every other.

use kybern_e2e::{Kubectl, run, shell};

const ROUNDS: usize = 8;

/// kubectl on each server by its own address.
fn servers() -> Vec<Kubectl> {
    let path = "jsonpath={range .endpoints[*]}{.addresses[0]} {end}";
    let addresses = run(&["get", "endpointslice", "kubernetes", "-o", path], None).expect("the API's own slice");
    let port = run(&["get", "endpointslice", "kubernetes", "-o", "jsonpath={.ports[0].port}"], None).expect("port");
    let on = |address: &str| Kubectl::new().with(&["--server", &format!("https://{address}:{port}")]);
    addresses.split_whitespace().map(on).collect()
}

/// A namespace that goes away at the end, made through a server of the test's choice.
struct Made(String);

impl Drop for Made {
    fn drop(&mut self) {
        let _ = run(&["delete", "namespace", &self.0, "--wait=false"], None);
    }
}

#[test]
fn what_one_server_wrote_every_other_honours_at_once() {
    let servers = servers();
    if servers.len() < 2 {
        eprintln!("skipped: the cluster has one server");
        return;
    }
    for round in 0..ROUNDS {
        let (one, other) = (&servers[round % servers.len()], &servers[(round + 1) % servers.len()]);
        let name = format!("honoured-{round}-{}", std::process::id());
        let say = |client: &Kubectl, args: &[&str]| {
            let mut all = vec!["--namespace", name.as_str()];
            all.extend_from_slice(args);
            client.run(&all, None).expect("kubectl").trim_end().to_owned()
        };
        // The namespace: without it, 404.
        one.run(&["create", "namespace", &name], None).expect("namespace");
        let _made = Made(name.clone());
        say(other, &["create", "configmap", "there"]);
        // The ServiceAccount: without it, the pod would be refused and the token not minted.
        say(one, &["create", "serviceaccount", "robot"]);
        let pod =
            shell("robots", "true").replace("spec:\n", "spec:\n  serviceAccountName: robot\n  schedulerName: none\n");
        other.run(&["--namespace", &name, "create", "-f", "-"], Some(&pod)).expect("the account exists");
        let token = say(other, &["create", "token", "robot"]);
        // The RoleBinding: without it, 403. The token: valid on the server that did not mint it.
        let robot = one.clone().with(&["--kubeconfig", "/dev/null", "--insecure-skip-tls-verify", "--token", &token]);
        say(other, &["create", "role", "reader", "--verb=get,list", "--resource=configmaps"]);
        let refused =
            robot.run(&["--namespace", &name, "get", "configmap", "there"], None).expect_err("no binding yet");
        assert!(format!("{refused:#}").contains("(Forbidden)"), "{refused:#}");
        say(other, &["create", "rolebinding", "reader", "--role=reader", &format!("--serviceaccount={name}:robot")]);
        let seen = robot.run(&["--namespace", &name, "get", "configmap", "there", "-o", "name"], None).expect("bound");
        assert_eq!(seen.trim_end(), "configmap/there");
        // And the end of it: the account goes, and its token with it.
        say(other, &["delete", "serviceaccount", "robot"]);
        let refused = robot.run(&["--namespace", &name, "get", "configmap", "there"], None).expect_err("no account");
        assert!(
            format!("{refused:#}").contains("Unauthorized") || format!("{refused:#}").contains("logged in"),
            "{refused:#}"
        );
    }
}
