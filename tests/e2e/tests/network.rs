//! Pods reach pods: by address, Service, name and node port, across nodes.

use kybern_e2e::{Namespace, ensure, eventually, fetch, run, shell, web};
use serde_json::json;
use std::process::Command;

#[test]
fn a_page_is_fetched_across_nodes_by_address_service_name_and_node_port() {
    let ns = Namespace::new("network");
    ns.apply(&web("web", 2));
    ns.rolled_out("web");
    let said = ns.say(&["expose", "deployment", "web", "--type=NodePort", "--port=80", "--target-port=http"]);
    assert_eq!(said, "service/web exposed");
    ns.apply(&shell("client", "sleep 3600"));
    ns.ready("client");

    let nodes = ns.path(&["pods", "-l", "app=web"], "{.items[*].spec.nodeName}").unwrap();
    let mut names: Vec<&str> = nodes.split(' ').collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 2, "replicas spread over both nodes: {nodes}");

    // Not wget's own -T: Debian's busybox-static crashes on it.
    let get = |url: &str| ns.kubectl(&["exec", "client", "--", "timeout", "3", "wget", "-q", "-O", "-", url]);
    for ip in ns.path(&["pods", "-l", "app=web"], "{.items[*].status.podIP}").unwrap().split(' ') {
        assert!(get(&format!("http://{ip}:8080/")).unwrap().contains("web-"), "pod {ip}");
    }
    let cluster_ip = ns.path(&["service", "web"], "{.spec.clusterIP}").unwrap();
    eventually("the service has its endpoints everywhere", || get(&format!("http://{cluster_ip}/")));
    for name in ["web", &format!("web.{}", ns.name()), &format!("web.{}.svc.cluster.local", ns.name())] {
        let page = eventually("the name is known", || get(&format!("http://{name}/")));
        assert!(page.contains("web-"), "{name}: {page}");
    }

    let port: u16 = ns.path(&["service", "web"], "{.spec.ports[0].nodePort}").unwrap().parse().unwrap();
    for node in
        ns.path(&["nodes"], "{.items[*].status.addresses[?(@.type==\"InternalIP\")].address}").unwrap().split(' ')
    {
        let page = eventually("the node port answers", || fetch(node, port));
        assert!(page.contains("web-"), "{node}: {page}");
    }
    // Through the API server, as dashboards do: by Service, and by pod.
    let pod = ns.path(&["pods", "-l", "app=web"], "{.items[0].metadata.name}").unwrap();
    for place in ["services/web:80".to_owned(), format!("pods/{pod}:8080"), format!("pods/http:{pod}:")] {
        let path = format!("/api/v1/namespaces/{}/{place}/proxy/", ns.name());
        let page = ns.say(&["get", "--raw", &path]);
        assert!(page.contains("web-"), "{path}: {page}");
    }
    let refused = ns.refused(&["get", "--raw", &format!("/api/v1/namespaces/{}/services/web:81/proxy/", ns.name())]);
    assert!(refused.contains("no service port 81 found"), "{refused}");
    if std::env::var("KYBERN").is_ok() {
        let page = eventually("a dev cluster's gate offers it on loopback", || fetch("127.0.0.1", port));
        assert!(page.contains("web-"), "{page}");
    }
}

/// Stub domains and hosts come into force and go with their config map.
#[test]
fn dns_answers_names_of_a_config_map() {
    let ns = Namespace::new("dns");
    ns.apply(&shell("client", "sleep 3600"));
    ns.ready("client");
    let name = format!("{}.test", ns.name());
    let client = ns.path(&["pod", "client"], "{.status.podIP}").unwrap();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "coredns-custom", "namespace": "kube-system"},
    "data": {
        "e2e.override": format!("hosts {{\n  192.0.2.7 {name}\n}}\n"),
        "e2e.server": format!("stub.{name} {{\n  forward . {client}:1\n}}\n"),
    }});
    run(&["apply", "-f", "-"], Some(&map.to_string())).unwrap();
    let ask = |name: &str| ns.kubectl(&["exec", "client", "--", "timeout", "3", "nslookup", "-type=a", name]);
    let said = eventually("the name is known", || ask(&name));
    assert!(said.contains("192.0.2.7"), "{said}");
    assert!(ask(&format!("stub.{name}")).is_err(), "nobody answers there");
    run(&["-n", "kube-system", "delete", "configmap", "coredns-custom"], None).unwrap();
    eventually("the name is forgotten", || {
        ensure(!ask(&name).is_ok_and(|said| said.contains("192.0.2.7")), || "still there".into())
    });
}

/// Every node's pods reach what they should, as the program itself says.
#[test]
fn the_network_is_checked_from_every_node() {
    let (Ok(kybern), Ok(kubeconfig)) = (std::env::var("KYBERN"), std::env::var("KUBECONFIG")) else {
        return eprintln!("skipped: KYBERN is not set");
    };
    let check = |more: &[&str]| {
        let args = ["net", "check", "--kubeconfig", &kubeconfig];
        let out = Command::new(&kybern).args(args).args(more).output().expect("kybern net check");
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let nodes = run(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"], None).unwrap();
    let (whole, said) = check(&[]);
    assert!(whole, "{said}");
    for from in nodes.split(' ') {
        for to in nodes.split(' ') {
            assert!(said.contains(&format!("pass  {from}: pods of {to}\n")), "{said}");
        }
        for what in ["the service kubernetes", "DNS for kubernetes.default.svc.cluster.local."] {
            assert!(said.contains(&format!("pass  {from}: {what}\n")), "{said}");
        }
    }
    let (whole, said) = check(&["--outside", "127.0.0.1:1"]);
    assert!(!whole && said.contains("127.0.0.1:1 outside: TCP: refused"), "{said}");
}
