//! Services as they are used from outside: who sees whose address, who keeps whose endpoint, whose port it is.

use anyhow::Result;
use kybern_e2e::{Answer, Namespace, ask, ensure, eventually, shell};
use serde_json::json;

/// Where the pods answer with the address they see and their own name.
const WHO: &str = "/cgi-bin/who";

/// A Deployment that answers so.
fn who(replicas: u32) -> String {
    let script = "mkdir -p /tmp/www/cgi-bin; printf '#!/bin/sh\\necho; echo from $REMOTE_ADDR at $(hostname)\\n' \
        >/tmp/www/cgi-bin/who; chmod +x /tmp/www/cgi-bin/who; exec httpd -f -p 8080 -h /tmp/www";
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "who"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "who"}}, "template": {
            "metadata": {"labels": {"app": "who"}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                "name": "who", "image": "kybern.local/web:1", "command": ["/bin/sh", "-c", script],
                "ports": [{"containerPort": 8080}],
                "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}]}}},
    })
    .to_string()
}

fn service(name: &str, port: u16, spec: serde_json::Value) -> String {
    let mut spec = spec;
    spec["selector"] = json!({"app": "who"});
    spec["ports"] = json!([{"port": port, "targetPort": 8080}]);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// The nodes' addresses, by name.
fn nodes(ns: &Namespace) -> Vec<(String, String)> {
    let path =
        "{range .items[*]}{.metadata.name}{' '}{.status.addresses[?(@.type==\"InternalIP\")].address}{'\\n'}{end}";
    let all = ns.path(&["nodes"], path).unwrap();
    all.lines().filter_map(|l| l.split_once(' ')).map(|(n, a)| (n.to_owned(), a.to_owned())).collect()
}

/// The node of the only pod first, then another.
fn near_and_far(ns: &Namespace) -> (String, String) {
    let node = ns.path(&["pods", "-l", "app=who"], "{.items[0].spec.nodeName}").unwrap();
    let (near, far): (Vec<_>, Vec<_>) = nodes(ns).into_iter().partition(|(name, _)| *name == node);
    (near[0].1.clone(), far[0].1.clone())
}

fn node_port(ns: &Namespace, service: &str, field: &str) -> u16 {
    ns.path(&["service", service], field).unwrap().parse().unwrap()
}

fn sees_client(answer: &Answer) -> Result<()> {
    ensure(plain(&answer.text).contains(&format!("from {} at", answer.source)), || format!("{answer:?}"))
}

/// The pods' server writes IPv4 addresses as IPv6 has them.
fn plain(text: &str) -> String {
    text.replace("[::ffff:", "").replace(']', "")
}

#[test]
fn local_traffic_keeps_its_source_and_stays_on_nodes_that_say_so() {
    let ns = Namespace::new("svc-local");
    ns.apply(&who(1));
    ns.rolled_out("who");
    ns.apply(&service("who", 8123, json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})));
    let (near, far) = near_and_far(&ns);
    let ingress = || ns.path(&["service", "who"], "{.status.loadBalancer.ingress[*].ip}");
    eventually("the node with the pod is the balancer", || {
        let ips = ingress()?;
        ensure(ips == near, || ips)
    });
    eventually("the pod sees the client", || sees_client(&ask(&near, 8123, WHO)?));
    let port = node_port(&ns, "who", "{.spec.ports[0].nodePort}");
    eventually("also at the node port", || sees_client(&ask(&near, port, WHO)?));
    ask(&far, port, WHO).expect_err("no pod here");

    let health = node_port(&ns, "who", "{.spec.healthCheckNodePort}");
    let healthy = |node: &str, line: &str, count: u32| {
        eventually("the health check answers", || {
            let text = ask(node, health, "/")?.text;
            let wanted = format!("\"localEndpoints\": {count}");
            ensure(text.contains(line) && text.contains(&wanted), || text)
        });
    };
    healthy(&near, "200 OK", 1);
    healthy(&far, "503 Service Unavailable", 0);

    ns.say(&["patch", "service", "who", "-p", r#"{"spec":{"externalTrafficPolicy":"Cluster"}}"#]);
    eventually("every node is a balancer", || {
        let ips = ingress()?;
        ensure(ips.split(' ').count() == nodes(&ns).len(), || ips)
    });
    let answer = eventually("the far node leads to the pod", || ask(&far, 8123, WHO));
    sees_client(&answer).expect_err("the node's address stands for the client's");
}

#[test]
fn a_balancer_is_open_to_its_ranges_and_a_port_belongs_to_one_service() {
    let ns = Namespace::new("svc-ranges");
    ns.apply(&who(1));
    ns.rolled_out("who");
    ns.apply(&service("who", 8124, json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})));
    let (near, _) = near_and_far(&ns);
    let source = eventually("it answers", || ask(&near, 8124, WHO)).source;

    let ranges = |range: &str| {
        let patch = json!({"spec": {"loadBalancerSourceRanges": [range]}}).to_string();
        ns.say(&["patch", "service", "who", "-p", &patch]);
    };
    ranges("192.0.2.0/24");
    eventually("others are kept out", || {
        let answer = ask(&near, 8124, WHO);
        ensure(answer.is_err(), || format!("{answer:?}"))
    });
    let port = node_port(&ns, "who", "{.spec.ports[0].nodePort}");
    ask(&near, port, WHO).expect("the node port is not the balancer's");
    ranges(&format!("{source}/32"));
    eventually("whom it is for is let in", || ask(&near, 8124, WHO));

    ns.apply(&service("rival", 8124, json!({"type": "LoadBalancer"})));
    ns.apply(&service("other", 8124, json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/lb"})));
    eventually("the second is told why it waits", || {
        let said = ns.kubectl(&["describe", "service", "rival"])?;
        ensure(said.contains("port 8124/TCP of the nodes belongs to Service"), || said)
    });
    let ingress = |name: &str| ns.path(&["service", name], "{.status.loadBalancer.ingress}");
    assert_eq!(ingress("other").unwrap(), "", "another class is another's");
    ns.say(&[
        "patch",
        "service",
        "who",
        "-p",
        r#"{"spec":{"type":"ClusterIP","externalTrafficPolicy":null,
        "loadBalancerSourceRanges":null}}"#,
    ]);
    assert_eq!(ingress("who").unwrap(), "", "what is no balancer has no balancer's address");
    eventually("given back, the port goes to who waited", || ask(&near, 8124, WHO));
}

#[test]
fn a_client_keeps_its_endpoint() {
    let ns = Namespace::new("svc-sticky");
    ns.apply(&who(3));
    ns.apply(&shell("client", "sleep 3600"));
    ns.rolled_out("who");
    ns.ready("client");
    let sticky = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    ns.apply(&service("who", 80, sticky));
    let get = |host: &str| {
        let url = format!("http://{host}{WHO}");
        ns.kubectl(&["exec", "client", "--", "timeout", "3", "wget", "-q", "-O", "-", &url]).map(|text| plain(&text))
    };
    let first = eventually("the service answers", || get("who"));
    // Three endpoints: by chance alone this would hold once in 59,049.
    for _ in 0..10 {
        assert_eq!(get("who").unwrap(), first);
    }
    let own = ns.path(&["pod", "client"], "{.status.podIP}").unwrap();
    assert!(first.contains(&format!("from {own} at")), "inside, the client's address stays: {first}");
    let pod = |text: &str| text.split(" at ").nth(1).map(str::to_owned);

    ns.say(&["delete", "pod", "--wait=false", pod(&first).unwrap().trim()]);
    eventually("another endpoint takes over", || {
        let text = get("who")?;
        ensure(pod(&text) != pod(&first), || text)
    });
}

#[test]
fn a_pods_host_port_is_its_nodes_port() {
    let ns = Namespace::new("svc-host");
    let patch = json!([{"op": "add", "path": "/spec/template/spec/containers/0/ports/0/hostPort", "value": 18_125}]);
    ns.apply(&who(1));
    ns.say(&["patch", "deployment", "who", "--type=json", "-p", &patch.to_string()]);
    ns.rolled_out("who");
    let (near, far) = eventually("one pod is left", || {
        let pods = ns.path(&["pods", "-l", "app=who"], "{.items[*].metadata.name}")?;
        ensure(!pods.contains(' '), || pods)?;
        Ok(near_and_far(&ns))
    });
    eventually("the pod sees the client", || sees_client(&ask(&near, 18_125, WHO)?));
    ask(&far, 18_125, WHO).expect_err("another node's port is another's");
    ns.say(&["delete", "deployment", "who"]);
    eventually("the port is closed after the pod", || {
        let answer = ask(&near, 18_125, WHO);
        ensure(answer.is_err(), || format!("{answer:?}"))
    });
}
