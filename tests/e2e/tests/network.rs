//! Pods reach pods: by address, Service, name and node port, across nodes.

use kybern_e2e::{Namespace, ensure, eventually, shell, web};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn a_page_is_fetched_across_nodes_by_address_service_name_and_node_port() {
    let ns = Namespace::new("network");
    ns.apply(&web("web", 2));
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).unwrap();
    ns.kubectl(&["expose", "deployment", "web", "--type=NodePort", "--port=80", "--target-port=http"]).unwrap();
    ns.apply(&shell("client", "sleep 3600"));
    ns.kubectl(&["wait", "pod/client", "--for=condition=Ready", "--timeout=60s"]).unwrap();

    let nodes = ns.path(&["pods", "-l", "app=web"], "{.items[*].spec.nodeName}").unwrap();
    let mut names: Vec<&str> = nodes.split(' ').collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 2, "replicas spread over both nodes: {nodes}");

    let get = |url: &str| ns.kubectl(&["exec", "client", "--", "wget", "-q", "-T", "3", "-O", "-", url]);
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
}

fn fetch(host: &str, port: u16) -> anyhow::Result<String> {
    let address = format!("{host}:{port}").parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure(text.contains("200 OK"), || text.clone())?;
    Ok(text)
}
