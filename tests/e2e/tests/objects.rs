//! kubectl on plain objects: every verb with its real output.

use kybern_e2e::{Namespace, ensure, eventually, run};

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
    assert_eq!(
        ns.kubectl(&["delete", "configmap", "c"]).unwrap().trim(),
        format!("configmap \"c\" deleted from {} namespace", ns.name())
    );
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
fn discovery_and_explain_know_every_kind() {
    let resources = run(&["api-resources", "--no-headers"], None).unwrap();
    for plural in ["pods", "deployments", "services", "configmaps", "clusterroles", "leases", "endpointslices"] {
        assert!(resources.lines().any(|l| l.starts_with(&format!("{plural} "))), "{plural} in\n{resources}");
    }
    let versions = run(&["api-versions"], None).unwrap();
    assert!(versions.lines().any(|v| v == "apps/v1") && versions.lines().any(|v| v == "v1"));
    let explained = run(&["explain", "deployment.spec.strategy.rollingUpdate"], None).unwrap();
    assert!(explained.contains("maxSurge") && explained.contains("maxUnavailable"), "{explained}");
    assert!(run(&["cluster-info"], None).unwrap().contains("is running at"));
}

#[test]
fn rights_are_told_as_they_are() {
    assert_eq!(run(&["auth", "can-i", "create", "pods"], None).unwrap().trim(), "yes");
    let ns = Namespace::new("rights");
    ns.kubectl(&["create", "serviceaccount", "reader"]).unwrap();
    ns.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]).unwrap();
    let subject = format!("--serviceaccount={}:reader", ns.name());
    ns.kubectl(&["create", "rolebinding", "reader", "--role=reader", &subject]).unwrap();
    let user = format!("--as=system:serviceaccount:{}:reader", ns.name());
    eventually("the role is honoured", || {
        let list = ns.kubectl(&["auth", "can-i", "--list", &user])?;
        ensure(list.lines().any(|l| l.starts_with("pods ") && l.contains("[get list]")), || list.clone())
    });
    assert_eq!(ns.kubectl(&["get", "pods", &user]).unwrap(), "");
    assert!(ns.refused(&["delete", "pods", "--all", &user]).contains("(Forbidden)"));
    assert!(ns.refused(&["get", "secrets", &user]).contains("cannot list resource \"secrets\""));
}
