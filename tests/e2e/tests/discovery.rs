//! What a cluster tells of itself: resources, versions, their fields, its rights and health.

use kybern_e2e::{Namespace, cells, ensure, eventually, run};

#[test]
fn api_resources_lists_every_kind_with_its_names_and_verbs() {
    let table = run(&["api-resources", "-o", "wide"], None).unwrap();
    let row = |plural: &str| {
        let line = table.lines().find(|l| l.split_whitespace().next() == Some(plural));
        line.unwrap_or_else(|| panic!("{plural} in\n{table}")).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(row("deployments")[1..5], ["deploy", "apps/v1", "true", "Deployment"]);
    assert_eq!(row("pods")[1..5], ["po", "v1", "true", "Pod"]);
    assert_eq!(row("nodes")[1..5], ["no", "v1", "false", "Node"]);
    assert_eq!(row("certificatesigningrequests")[1..3], ["csr", "certificates.k8s.io/v1"]);
    assert!(row("configmaps")[5].contains("deletecollection") && row("configmaps")[5].contains("watch"));
    for plural in ["services", "secrets", "serviceaccounts", "clusterroles", "leases", "endpointslices", "events"] {
        row(plural);
    }
    let namespaced = run(&["api-resources", "--namespaced=true", "-o", "name"], None).unwrap();
    assert!(namespaced.lines().any(|l| l == "deployments.apps") && !namespaced.lines().any(|l| l == "nodes"));
    let grouped = run(&["api-resources", "--api-group=rbac.authorization.k8s.io", "-o", "name"], None).unwrap();
    assert_eq!(grouped.lines().count(), 4, "{grouped}");
}

#[test]
fn versions_health_and_addresses_are_told() {
    let versions = run(&["api-versions"], None).unwrap();
    for wanted in ["v1", "apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1", "coordination.k8s.io/v1"] {
        assert!(versions.lines().any(|v| v == wanted), "{wanted} in {versions}");
    }
    assert!(run(&["version"], None).unwrap().contains("Server Version: v1.36"));
    let info = run(&["cluster-info"], None).unwrap();
    assert!(info.contains("control plane") && info.contains("is running at"), "{info}");
    assert_eq!(run(&["get", "--raw", "/healthz"], None).unwrap(), "ok");
    let ready = run(&["get", "--raw", "/readyz?verbose"], None).unwrap();
    assert!(ready.contains("[+]") && !ready.contains("[-]") && ready.contains("readyz check passed"), "{ready}");
}

#[test]
fn explain_knows_fields_types_and_the_whole_tree() {
    let explained = run(&["explain", "deployment.spec.strategy.rollingUpdate"], None).unwrap();
    for words in ["GROUP:", "KIND:", "VERSION:", "maxSurge", "maxUnavailable", "<IntOrString>"] {
        assert!(explained.contains(words), "{words} in\n{explained}");
    }
    let pod = run(&["explain", "pod.spec.containers.image"], None).unwrap();
    assert!(pod.contains("FIELD: image <string>"), "{pod}");
    let required = run(&["explain", "pod.spec"], None).unwrap();
    assert!(required.lines().any(|l| l.contains("containers") && l.contains("<[]Container> -required-")), "{required}");
    let tree = run(&["explain", "deployment", "--recursive"], None).unwrap();
    for line in ["  spec\t<DeploymentSpec>", "    replicas\t<integer>", "        containers\t<[]Container> -required-"]
    {
        assert!(tree.lines().any(|l| l == line), "{line:?} in\n{tree}");
    }
    let unknown = format!("{:#}", run(&["explain", "pod.spec.nothing"], None).unwrap_err());
    assert!(unknown.contains("field \"nothing\" does not exist"), "{unknown}");
}

#[test]
fn rights_are_told_as_they_are() {
    assert_eq!(run(&["auth", "can-i", "create", "pods"], None).unwrap().trim(), "yes");
    let ns = Namespace::new("rights");
    ns.say(&["create", "serviceaccount", "reader"]);
    assert_eq!(
        ns.say(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]),
        "role.rbac.authorization.k8s.io/reader created"
    );
    let subject = format!("--serviceaccount={}:reader", ns.name());
    ns.say(&["create", "rolebinding", "reader", "--role=reader", &subject]);
    let user = format!("--as=system:serviceaccount:{}:reader", ns.name());
    let list = eventually("the role is honoured", || {
        let list = ns.kubectl(&["auth", "can-i", "--list", &user])?;
        let row = list.lines().map(cells).find(|c| c.first() == Some(&"pods"));
        ensure(row == Some(vec!["pods", "[]", "[]", "[get list]"]), || list.clone())?;
        Ok(list)
    });
    assert_eq!(cells(list.lines().next().unwrap()), ["Resources", "Non-Resource URLs", "Resource Names", "Verbs"]);
    assert!(list.lines().any(|l| l.contains("selfsubjectaccessreviews.authorization.k8s.io")), "{list}");
    assert_eq!(ns.say(&["auth", "can-i", "list", "pods", &user]), "yes");
    let no = ns.client().output(&["auth", "can-i", "delete", "pods", &user], None).unwrap();
    assert_eq!((String::from_utf8_lossy(&no.stdout).trim(), no.status.code()), ("no", Some(1)));
    assert_eq!(ns.say(&["get", "pods", &user]), "");
    let forbidden = ns.refused(&["delete", "pod", "any", &user]);
    assert!(forbidden.contains("(Forbidden)") && forbidden.matches("cannot delete").count() == 1, "{forbidden}");
    let secrets = ns.refused(&["get", "secrets", &user]);
    let wanted = format!("cannot list resource \"secrets\" in API group \"\" in the namespace \"{}\"", ns.name());
    assert!(secrets.contains(&wanted), "{secrets}");
}
