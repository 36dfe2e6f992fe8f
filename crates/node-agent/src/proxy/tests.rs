//! Transactions against the kernel, in network namespaces of their own.

use super::*;
use crate::net::netns;
use crate::proxy::model::tests::{object, slice, web};
use crate::proxy::rules::tests::network;
use kybern_api::object::EventType;
use serde_json::json;

fn proxy() -> std::io::Result<Proxy> {
    Ok(Proxy::new("n1", network(), Table::open(TABLE)?))
}

/// A proxy, and the kernel's rules after each of its steps.
struct Played {
    proxy: Proxy,
    seen: Vec<String>,
}

impl Played {
    async fn step(&mut self) -> std::io::Result<()> {
        self.proxy.sync().await.map_err(std::io::Error::other)?;
        self.seen.push(listing());
        Ok(())
    }
}

/// The rules after each step of a scenario, which has a namespace of its own.
fn play<F, Fut>(name: &str, scenario: F) -> Vec<String>
where
    F: FnOnce(Played) -> Fut + Send + 'static,
    Fut: Future<Output = std::io::Result<Vec<String>>>,
{
    let name = format!("kybern-{name}-{}", std::process::id());
    netns::create(&name).unwrap();
    let outcome = netns::run_in_async(&netns::path(&name), || async {
        scenario(Played { proxy: proxy()?, seen: Vec::new() }).await
    });
    netns::delete(&name).unwrap();
    outcome.unwrap()
}

/// Asserted with the stock tool, not with our own reader.
fn listing() -> String {
    let out = std::process::Command::new("nft").args(["list", "table", "ip", "kybern"]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn the_kernel_takes_every_transaction_and_ends_with_what_the_model_says() {
    let seen = play("nft", |mut p| async move {
        p.proxy.model().service(EventType::Added, &web("d", "10.43.0.7", 30080)).unwrap();
        p.step().await?;
        let both = slice("d", &[("10.42.1.2", "n1", Some(true)), ("10.42.2.2", "n2", Some(true))]);
        p.proxy.model().slice(EventType::Added, &both).unwrap();
        p.step().await?;
        p.proxy.model().service(EventType::Modified, &web("d", "10.43.0.8", 30081)).unwrap();
        p.step().await?;
        p.proxy.invalidate();
        p.step().await?;
        p.proxy.model().service(EventType::Deleted, &web("d", "10.43.0.8", 30081)).unwrap();
        p.step().await?;
        std::process::Command::new("nft").args(["flush", "ruleset"]).status()?;
        p.proxy.disturbed().await;
        p.proxy.invalidate();
        p.step().await?;
        Ok(p.seen)
    });
    assert!(seen[0].contains("10.43.0.7 . tcp . 80") && !seen[0].contains("dnat"), "{}", seen[0]);
    assert!(seen[1].contains("10.42.2.2 . 8080"), "{}", seen[1]);
    assert!(seen[2].contains("10.43.0.8 . tcp . 80") && !seen[2].contains("10.43.0.7"), "{}", seen[2]);
    assert!(seen[2].contains("tcp . 30081") && !seen[2].contains("30080"), "{}", seen[2]);
    assert_eq!(seen[2].lines().count(), seen[3].lines().count(), "a rewrite gives the same rules");
    assert!(!seen[4].contains("svc-") && !seen[4].contains("10.43.0.8"), "{}", seen[4]);
    assert_eq!(seen[4], seen[5], "flushed by hand, all of it is back");
}

fn rich(name: &str, ranges: &[&str]) -> kybern_api::object::Object {
    let port = json!({"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30090});
    let spec = json!({"type": "LoadBalancer", "clusterIPs": [if name == "web" { "10.43.0.7" } else { "10.43.0.8" }],
        "ports": [port], "externalTrafficPolicy": "Local", "healthCheckNodePort": 30091,
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 30}},
        "loadBalancerSourceRanges": ranges});
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    object("d", name, &[], json!({"spec": spec, "status": status}))
}

fn pod(port: u16, host_ip: &str) -> kybern_api::object::Object {
    let port = json!({"containerPort": 8080, "hostPort": port, "hostIP": host_ip, "protocol": "UDP"});
    let spec = json!({"nodeName": "n1", "containers": [{"ports": [port]}]});
    object("d", "p", &[], json!({"spec": spec, "status": {"phase": "Running", "podIPs": [{"ip": "10.42.1.5"}]}}))
}

#[test]
fn affinity_sources_host_ports_and_rivals_are_taken_and_given_back() {
    let seen = play("nft2", |mut p| async move {
        p.proxy.model().service(EventType::Added, &rich("web", &["198.51.100.0/24"])).unwrap();
        let both = slice("d", &[("10.42.1.2", "n1", Some(true)), ("10.42.2.2", "n2", Some(true))]);
        p.proxy.model().slice(EventType::Added, &both).unwrap();
        p.proxy.model().pod(EventType::Added, &pod(53, "")).unwrap();
        p.step().await?;
        let one = slice("d", &[("10.42.1.2", "n1", Some(true))]);
        p.proxy.model().slice(EventType::Modified, &one).unwrap();
        p.proxy.model().pod(EventType::Modified, &pod(53, "127.0.0.1")).unwrap();
        p.proxy.model().service(EventType::Added, &rich("rival", &[])).unwrap();
        p.step().await?;
        p.proxy.model().service(EventType::Deleted, &rich("web", &[])).unwrap();
        p.proxy.model().pod(EventType::Deleted, &pod(53, "")).unwrap();
        p.step().await?;
        Ok(p.seen)
    });
    assert_eq!(seen[0].matches("set aff-").count(), 2, "{}", seen[0]);
    assert!(seen[0].contains("ip saddr != 198.51.100.0/24 drop") && seen[0].contains("udp . 53"), "{}", seen[0]);
    assert_eq!(seen[1].matches("set aff-").count(), 1, "{}", seen[1]);
    assert!(seen[1].contains("127.0.0.1 . udp . 53") && seen[1].contains("10.43.0.8 . tcp . 80"), "{}", seen[1]);
    assert!(seen[1].contains("192.0.2.1 . tcp . 80 : goto lb-"), "who has the address keeps it: {}", seen[1]);
    assert!(seen[2].contains("192.0.2.1 . tcp . 80 : goto ext-"), "given back, it goes on: {}", seen[2]);
    assert!(!seen[2].contains("10.43.0.7") && !seen[2].contains("udp . 53"), "{}", seen[2]);
}

/// A client outside, a node, and its pod: who comes through an external IP, and as whom.
#[test]
fn packets_to_an_external_ip_reach_the_pod() {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    let lab = crate::net::lab::Lab::new("ext", &["n", "c", "p"]);
    lab.cable("c", "198.51.100.9/24", "n", "out");
    lab.cable("p", "10.42.1.2/24", "n", "pod");
    for (link, address) in [("out", "198.51.100.1/24"), ("pod", "10.42.1.1/24")] {
        lab.ip("n", &format!("addr add {address} dev {link}"));
    }
    lab.ip("c", "route add default via 198.51.100.1");
    lab.ip("p", "route add default via 10.42.1.1");
    lab.forward("n");
    let listener = lab.run("p", || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080))).unwrap();
    let external = SocketAddr::from(([192, 0, 2, 10], 80));
    let put = |ips: &[&str], policy: &str| {
        let spec = json!({"type": "ClusterIP", "clusterIPs": ["10.43.0.7"], "externalIPs": ips,
            "externalTrafficPolicy": policy, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]});
        let service = object("d", "web", &[], json!({"spec": spec}));
        let work = move || async move {
            let mut proxy = proxy()?;
            proxy.model().service(EventType::Added, &service).unwrap();
            proxy.model().slice(EventType::Added, &slice("d", &[("10.42.1.2", "n1", Some(true))])).unwrap();
            proxy.sync().await.map(drop).map_err(std::io::Error::other)
        };
        netns::run_in_async(&netns::path(&lab.part("n")), work).unwrap();
    };
    for (policy, client) in [("Cluster", [10, 42, 1, 1]), ("Local", [198, 51, 100, 9])] {
        put(&["192.0.2.10"], policy);
        assert!(lab.reaches("c", external), "{policy}");
        assert_eq!(listener.accept().unwrap().1.ip(), Ipv4Addr::from(client), "{policy}");
    }
    put(&[], "Cluster");
    assert!(!lab.reaches("c", external), "taken away");
}
