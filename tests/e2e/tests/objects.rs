//! kubectl on plain objects: every verb that changes one, with its real output.

use kybern_e2e::{Namespace, Scratch, run, shell, web};

#[test]
fn a_config_map_lives_through_every_verb() {
    let ns = Namespace::new("verbs");
    let said = ns.kubectl(&["create", "configmap", "c", "--from-literal=a=1"]).unwrap();
    assert_eq!(said.trim(), "configmap/c created");
    assert!(ns.refused(&["create", "configmap", "c"]).contains("already exists"));
    assert_eq!(ns.path(&["configmap", "c"], "{.data.a}").unwrap(), "1");

    assert_eq!(ns.kubectl(&["label", "configmap", "c", "tier=x"]).unwrap().trim(), "configmap/c labeled");
    assert_eq!(ns.kubectl(&["annotate", "configmap", "c", "note=hello"]).unwrap().trim(), "configmap/c annotated");
    let selected = ns.kubectl(&["get", "configmap", "-l", "tier=x", "-o", "name"]).unwrap();
    assert_eq!(selected.trim(), "configmap/c");
    let none = ns.kubectl(&["get", "configmap", "-l", "tier=y", "-o", "name"]).unwrap();
    assert_eq!(none.trim(), "");
    let by_field = ns.kubectl(&["get", "configmap", "--field-selector", "metadata.name=c", "-o", "name"]).unwrap();
    assert_eq!(by_field.trim(), "configmap/c");

    for (kind, patch) in [
        ("merge", r#"{"data":{"b":"2"}}"#),
        ("strategic", r#"{"data":{"c":"3"}}"#),
        ("json", r#"[{"op":"add","path":"/data/d","value":"4"}]"#),
    ] {
        let said = ns.kubectl(&["patch", "configmap", "c", "--type", kind, "-p", patch]).unwrap();
        assert_eq!(said.trim(), "configmap/c patched", "{kind}");
    }
    let columns = "custom-columns=NAME:.metadata.name,B:.data.b,C:.data.c,D:.data.d";
    let table = ns.kubectl(&["get", "configmap", "c", "-o", columns]).unwrap();
    assert_eq!(table.lines().last().unwrap().split_whitespace().collect::<Vec<_>>(), ["c", "2", "3", "4"]);

    let described = ns.kubectl(&["describe", "configmap", "c"]).unwrap();
    assert!(described.contains("tier=x") && described.contains("hello"), "{described}");
    // Newer clients add the namespace.
    let said = ns.say(&["delete", "configmap", "c"]);
    assert!(said.starts_with("configmap \"c\" deleted"), "{said}");
    assert!(ns.refused(&["get", "configmap", "c"]).contains("(NotFound)"));
}

#[test]
fn apply_creates_configures_and_says_unchanged() {
    let ns = Namespace::new("apply");
    let manifest =
        |v: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: c }}\ndata: {{ a: \"{v}\" }}\n");
    assert_eq!(ns.apply(&manifest("1")).trim(), "configmap/c created");
    assert_eq!(ns.apply(&manifest("1")).trim(), "configmap/c unchanged");
    assert_eq!(ns.apply(&manifest("2")).trim(), "configmap/c configured");
    let served = ns.kubectl_with(&["apply", "--server-side", "--field-manager", "other", "-f", "-"], &manifest("3"));
    let text = format!("{:#}", served.unwrap_err());
    assert!(text.contains("conflict"), "another manager owns the field: {text}");
}

#[test]
fn unknown_fields_and_bad_names_are_refused_with_their_path() {
    let ns = Namespace::new("strict");
    let bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: c }\ndatta: { a: b }\n";
    let text = format!("{:#}", ns.kubectl_with(&["create", "-f", "-"], bad).unwrap_err());
    assert!(text.contains("unknown field \"datta\""), "{text}");
    let name = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: Not_A_Name }\n";
    let text = format!("{:#}", ns.kubectl_with(&["create", "-f", "-"], name).unwrap_err());
    assert!(text.contains("metadata.name") && text.contains("RFC 1123 subdomain"), "{text}");
}

#[test]
fn edit_changes_what_the_editor_wrote_and_tells_when_nothing_did() {
    let ns = Namespace::new("edit");
    ns.say(&["create", "configmap", "c", "--from-literal=a=before"]);
    let edit = |script: &str| {
        let editor = format!("sed -i {script}");
        ns.client().variable("KUBE_EDITOR", &editor).run(&["edit", "configmap", "c"], None).unwrap()
    };
    assert_eq!(edit("s/before/after/").trim(), "configmap/c edited");
    assert_eq!(ns.path(&["configmap", "c"], "{.data.a}").unwrap(), "after");
    assert!(edit("s/before/never/").is_empty(), "nothing to change");
}

#[test]
fn create_makes_every_kind_it_has_words_for() {
    let ns = Namespace::new("create");
    let made: [(&[&str], &str); 9] = [
        (&["deployment", "d", "--image=kybern.local/web:1", "--replicas=0"], "deployment.apps/d created"),
        (&["configmap", "c", "--from-literal=k=v"], "configmap/c created"),
        (&["secret", "generic", "s", "--from-literal=k=hidden"], "secret/s created"),
        (&["serviceaccount", "a"], "serviceaccount/a created"),
        (&["service", "clusterip", "v", "--tcp=80:8080"], "service/v created"),
        (&["service", "nodeport", "n", "--tcp=80:8080"], "service/n created"),
        (&["role", "r", "--verb=get", "--resource=pods"], "role.rbac.authorization.k8s.io/r created"),
        (&["rolebinding", "b", "--role=r", "--user=jane"], "rolebinding.rbac.authorization.k8s.io/b created"),
        (&["quota", "q", "--hard=pods=9"], "resourcequota/q created"),
    ];
    for (what, said) in made {
        let mut args = vec!["create"];
        args.extend_from_slice(what);
        assert_eq!(ns.say(&args), said);
    }
    assert_eq!(ns.path(&["secret", "s"], "{.data.k}").unwrap(), "aGlkZGVu");
    assert!(ns.say(&["describe", "secret", "s"]).contains("6 bytes"));
    assert_eq!(ns.path(&["deployment", "d"], "{.spec.template.spec.containers[0].name}").unwrap(), "web");
    assert_eq!(ns.path(&["rolebinding", "b"], "{.subjects[0].name}").unwrap(), "jane");
    let token = ns.say(&["create", "token", "a", "--duration=10m"]);
    let with_token = ns.client().with(&["--token", &token]);
    let whoami = with_token.run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"], None);
    // The client certificate of the administrator wins over a token, as it does everywhere.
    assert!(!whoami.unwrap().is_empty() && token.split('.').count() == 3, "{token}");
}

#[test]
fn dry_runs_replacements_and_differences_leave_no_trace_of_their_own() {
    let ns = Namespace::new("dry");
    let manifest =
        |v: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: c }}\ndata: {{ a: \"{v}\" }}\n");
    let dry = ns.say(&["create", "configmap", "c", "--from-literal=a=1", "--dry-run=server", "-o", "name"]);
    assert_eq!(dry, "configmap/c");
    assert!(ns.refused(&["get", "configmap", "c"]).contains("(NotFound)"));
    let applied = ns.kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &manifest("1")).unwrap();
    assert_eq!(applied.trim(), "configmap/c created (server dry run)");
    ns.apply(&manifest("1"));
    let diff = ns.client().output(&["diff", "-f", "-"], Some(&manifest("2"))).unwrap();
    let text = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{text}");
    assert!(text.contains("-  a: \"1\"") && text.contains("+  a: \"2\""), "{text}");
    let replaced = ns.kubectl_with(&["replace", "-f", "-"], &manifest("3")).unwrap();
    assert_eq!(
        (replaced.trim(), ns.path(&["configmap", "c"], "{.data.a}").unwrap().as_str()),
        ("configmap/c replaced", "3")
    );
}

#[test]
fn labels_are_guarded_overwritten_and_removed() {
    let ns = Namespace::new("labels");
    ns.say(&["create", "configmap", "c"]);
    assert_eq!(ns.say(&["label", "configmap", "c", "tier=a"]), "configmap/c labeled");
    let refused = ns.refused(&["label", "configmap", "c", "tier=b"]);
    assert!(refused.contains("already has a value (a)"), "{refused}");
    assert_eq!(ns.say(&["label", "configmap", "c", "tier=b", "--overwrite"]), "configmap/c labeled");
    assert_eq!(ns.path(&["configmap", "c"], "{.metadata.labels.tier}").unwrap(), "b");
    assert_eq!(ns.say(&["label", "configmap", "c", "tier-"]), "configmap/c unlabeled");
    assert_eq!(ns.path(&["configmap", "c"], "{.metadata.labels}").unwrap(), "");
    assert_eq!(ns.say(&["annotate", "configmap", "c", "note=x"]), "configmap/c annotated");
    assert_eq!(ns.say(&["annotate", "configmap", "c", "note-"]), "configmap/c annotated");
    let bad = ns.refused(&["label", "configmap", "c", "tier=not/good"]);
    assert!(bad.contains("invalid") || bad.contains("valid label"), "{bad}");
}

#[test]
fn delete_takes_files_selectors_and_everything_of_a_kind() {
    let ns = Namespace::new("delete");
    let scratch = Scratch::new("delete");
    let file = scratch.file("web.yaml");
    std::fs::write(&file, web("web", 0)).unwrap();
    ns.say(&["create", "-f", &file]);
    assert!(ns.say(&["delete", "-f", &file]).starts_with("deployment.apps \"web\" deleted"));
    assert!(ns.refused(&["delete", "-f", &file]).contains("(NotFound)"));
    for name in ["a", "b", "c"] {
        ns.say(&["create", "configmap", name]);
    }
    ns.say(&["label", "configmap", "a", "b", "gone=yes"]);
    assert_eq!(ns.say(&["delete", "configmap", "-l", "gone=yes"]).lines().count(), 2);
    assert_eq!(ns.say(&["get", "configmap", "c", "-o", "name"]), "configmap/c");
    ns.apply(&shell("p", "sleep 3600"));
    assert!(ns.say(&["delete", "pods", "--all", "--now"]).starts_with("pod \"p\" deleted"));
    assert_eq!(ns.say(&["get", "pods", "-o", "name"]), "");
    assert!(run(&["get", "namespace", "nowhere-at-all"], None).is_err());
}
