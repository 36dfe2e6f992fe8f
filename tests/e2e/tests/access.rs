//! Who sees what: the three ways to bind a role, and a user from `kybern kubeconfig create` to its
//! revocation.

use kybern_e2e::{Namespace, Scratch, ensure, eventually, run};
use std::process::Command;

/// What `user` is told about a resource: true when it may list it.
fn sees(user: &str, place: &[&str], resource: &str) -> bool {
    let identity = format!("--as={user}");
    let mut args = vec![identity.as_str(), "get", resource];
    args.extend_from_slice(place);
    match run(&args, None) {
        Ok(_) => true,
        Err(e) => {
            let text = format!("{e:#}");
            assert!(text.contains("(Forbidden)") && text.contains(user), "{text}");
            false
        }
    }
}

/// Deletes cluster-scoped objects of this test when it ends, well or badly.
struct Cleanup(Vec<String>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for object in &self.0 {
            run(&["delete", object, "--ignore-not-found"], None).ok();
        }
    }
}

#[test]
fn each_way_to_bind_a_role_shows_what_it_should_and_no_more() {
    let (ours, theirs) = (Namespace::new("rbac-a"), Namespace::new("rbac-b"));
    let id = std::process::id();
    let (role, user) = (format!("rbac-{id}"), |who: &str| format!("{who}-{id}"));
    let (local, shared, global) = (user("local"), user("shared"), user("global"));
    let _cleanup = Cleanup(vec![format!("clusterrole/{role}"), format!("clusterrolebinding/{role}")]);

    ours.say(&["create", "role", "pods", "--verb=get,list", "--resource=pods"]);
    ours.say(&["create", "rolebinding", "local", "--role=pods", &format!("--user={local}")]);
    run(&["create", "clusterrole", &role, "--verb=get,list", "--resource=pods,nodes"], None).unwrap();
    ours.say(&["create", "rolebinding", "shared", &format!("--clusterrole={role}"), &format!("--user={shared}")]);
    let whole = format!("--clusterrole={role}");
    run(&["create", "clusterrolebinding", &role, &whole, &format!("--user={global}")], None).unwrap();
    eventually("the bindings are honoured", || {
        ensure(run(&["auth", "can-i", "list", "nodes", &format!("--as={global}")], None).is_ok(), || "not yet".into())
    });

    let (here, there, everywhere) = (["-n", ours.name()], ["-n", theirs.name()], ["-A"]);
    let cases: [(&str, &[&str], &str, [bool; 3]); 5] = [
        ("its namespace", &here, "pods", [true, true, true]),
        ("another namespace", &there, "pods", [false, false, true]),
        ("all namespaces", &everywhere, "pods", [false, false, true]),
        // A role bound in a namespace gives nothing outside namespaces, whatever it lists.
        ("cluster-scoped", &[], "nodes", [false, false, true]),
        ("what no rule names", &here, "secrets", [false, false, false]),
    ];
    for (what, place, resource, wanted) in cases {
        let seen = [&local, &shared, &global].map(|user| sees(user, place, resource));
        assert_eq!(seen, wanted, "{what}: Role, ClusterRole in a namespace, ClusterRole in the cluster");
    }
}

#[test]
fn a_user_is_made_explained_and_revoked() {
    let (Ok(program), Ok(admin), Ok(cluster)) =
        (std::env::var("KYBERN"), std::env::var("KUBECONFIG"), std::env::var("KYBERN_NAME"))
    else {
        eprintln!("skipped: KYBERN is not set");
        return;
    };
    let kybern = |args: &[&str]| {
        let out = Command::new(&program).args(args).args(["--kubeconfig", &admin]).output().expect("kybern");
        let said = [out.stdout, out.stderr].map(|s| String::from_utf8_lossy(&s).into_owned());
        (out.status.success(), said.concat())
    };
    let (ns, dir) = (Namespace::new("user"), Scratch::new("user"));
    let (user, group) = (format!("ann-{}", std::process::id()), format!("devs-{}", std::process::id()));
    let (config, data) = (dir.file("config"), format!("/var/lib/kybern/dev/{cluster}/server-1"));
    let make = |groups: &[&str]| {
        let mut args = vec!["kubeconfig", "create", &user, "--expires", "1h", "-o", &config, "--data-dir", &data];
        args.extend(groups.iter().flat_map(|g| ["--group", g]));
        kybern(&args)
    };
    let (made, said) = make(&["system:masters"]);
    assert!(!made && said.contains("--reserved"), "{said}");
    let (made, said) = make(&[&group]);
    assert!(made, "{said}");

    ns.say(&["create", "role", "pods", "--verb=list", "--resource=pods"]);
    ns.say(&["create", "rolebinding", "devs", "--role=pods", &format!("--group={group}")]);
    let list = || run(&["--kubeconfig", &config, "-n", ns.name(), "get", "pods"], None);
    eventually("the group's role is honoured", list);
    let why = |verb: &str| kybern(&["auth", "why", &user, verb, "pods", "--group", &group, "-n", ns.name()]).1;
    let said = why("list");
    assert!(said.starts_with("yes: ") && said.contains("devs"), "the binding is named: {said}");
    assert!(why("delete").starts_with("no: "), "{}", why("delete"));

    let certificate = dir.file("ann.crt");
    let data = run(
        &[
            "config",
            "view",
            "--raw",
            "--kubeconfig",
            &config,
            "-o",
            "jsonpath={.users[0].user.client-certificate-data}",
        ],
        None,
    );
    std::fs::write(dir.file("b64"), data.unwrap()).unwrap();
    let decode = ["base64", "-d", "-A", "-in", &dir.file("b64"), "-out", &certificate];
    assert!(Command::new("openssl").args(decode).status().expect("openssl").success());
    let (revoked, said) = kybern(&["certificate", "revoke", &certificate, "--reason", "lost laptop"]);
    assert!(revoked, "{said}");
    eventually("it is refused", || match list() {
        Err(e) => {
            let text = format!("{e:#}");
            ensure(text.contains("Unauthorized") || text.contains("logged in"), || text.clone())
        }
        Ok(_) => ensure(false, || "still let in".into()),
    });
    let (_, said) = make(&[&group]);
    eventually(&format!("a new certificate of the same user works {said}"), list);
}
