//! Pods reach pods: by address, Service, name and node port, across nodes.

use kybern_e2e::{Namespace, eventually, fetch, shell, web};

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
