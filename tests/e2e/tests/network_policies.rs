//! A matrix of network policies: after each change every client probes every port of one server, by address
//! and by Service, over TCP and UDP, from the same node, another node and another namespace.

use anyhow::{Result, ensure};
use kybern_e2e::{Namespace, run, within};
use std::time::Duration;

/// How long a change may take to hold, the probes' own second included.
const SOON: Duration = Duration::from_secs(15);

/// A server with two ports over TCP and DNS over UDP, ready by its probe whatever the policies say.
const SERVER: &str = "hostname >/tmp/index.html; echo 'x.test 192.0.2.1' >/tmp/dnsd; httpd -p 8080 -h /tmp; \
                      httpd -p 9090 -h /tmp; exec dnsd -c /tmp/dnsd";

fn pod(name: &str, node: &str, command: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: {name} }} }}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: kybern.local/web:1
    command: ["/bin/sh", "-c", "{command}"]
{more}
"#
    )
}

const PORTS: &str = r"
    ports: [{ containerPort: 8080, name: http }, { containerPort: 9090, name: alt }]
    readinessProbe: { httpGet: { path: /, port: http }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: server }
spec:
  selector: { app: server }
  ports: [{ port: 80, targetPort: http }]
";

/// What a client says that it reaches: `http`, `alt`, `svc`, `dns`.
fn probe(ns: &Namespace, client: &str, server: &str, service: &str) -> Result<String> {
    let get = |name: &str, to: &str| format!("(timeout 1 wget -q -O /dev/null http://{to}/ && echo {name}) & ");
    let dns = format!("(timeout 1 nslookup -type=a x.test {server} >/dev/null && echo dns) & ");
    let script = get("http", &format!("{server}:8080")) + &get("alt", &format!("{server}:9090")) + &get("svc", service);
    let script = format!("({script}{dns} wait) 2>/dev/null; true");
    let said = ns.kubectl(&["exec", client, "--", "sh", "-c", &script])?;
    let mut reached: Vec<&str> = said.split_whitespace().collect();
    reached.sort_unstable();
    Ok(reached.join(" "))
}

struct Matrix {
    near: Namespace,
    alien: Namespace,
    server: String,
    service: String,
}

impl Matrix {
    /// What `near`, `far` and `alien` reach.
    fn probe(&self) -> Result<[String; 3]> {
        let clients = [(&self.near, "near"), (&self.near, "far"), (&self.alien, "alien")];
        let said = std::thread::scope(|scope| {
            let threads = clients.map(|(ns, client)| scope.spawn(|| probe(ns, client, &self.server, &self.service)));
            threads.map(|t| t.join().expect("a probe"))
        });
        let [near, far, alien] = said;
        Ok([near?, far?, alien?])
    }

    fn expect(&self, what: &str, want: [&str; 3]) {
        within(what, SOON, || {
            let have = self.probe()?;
            ensure!(have == want, "near, far and alien reach {have:?}, not {want:?}");
            Ok(())
        });
    }

    /// The one policy is this from now on, for pods with `app: selected`.
    fn policy(&self, selected: &str, rules: &str) {
        let manifest = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: p }}\n\
             spec:\n  podSelector: {{ matchLabels: {{ app: {selected} }} }}\n{rules}"
        );
        self.near.apply(&manifest);
    }
}

const ALL: &str = "alt dns http svc";

fn matrix() -> Matrix {
    let (near, alien) = (Namespace::new("netpol"), Namespace::new("netpol-alien"));
    run(&["label", "namespace", alien.name(), "team=blue"], None).expect("a label");
    let nodes = near.path(&["nodes"], "{.items[*].metadata.name}").unwrap();
    let nodes: Vec<&str> = nodes.split(' ').collect();
    let (first, last) = (nodes[0], nodes[nodes.len() - 1]);
    near.apply(&pod("server", first, SERVER, PORTS));
    near.apply(&[pod("near", first, "sleep 3600", ""), pod("far", last, "sleep 3600", "")].join("---"));
    alien.apply(&pod("alien", last, "sleep 3600", ""));
    ["server", "near", "far"].iter().for_each(|p| near.ready(p));
    alien.ready("alien");
    let server = near.path(&["pod", "server"], "{.status.podIP}").unwrap();
    let service = near.path(&["service", "server"], "{.spec.clusterIP}").unwrap();
    Matrix { near, alien, server, service }
}

#[test]
fn every_selector_direction_and_protocol_holds_after_each_change() {
    let m = matrix();
    m.expect("no policy: everybody", [ALL; 3]);
    m.policy("server", "  policyTypes: [Ingress]\n");
    m.expect("nobody", [""; 3]);
    m.policy("server", "  ingress: [{ from: [{ podSelector: { matchLabels: { app: near } } }] }]\n");
    m.expect("a pod selector", [ALL, "", ""]);
    m.policy("server", "  ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: blue } } }] }]\n");
    m.expect("a namespace selector", ["", "", ALL]);
    run(&["label", "namespace", m.alien.name(), "team=red", "--overwrite"], None).expect("a label");
    m.expect("the namespace's label changes", [""; 3]);
    m.policy(
        "server",
        "  ingress: [{ from: [{ namespaceSelector: {}, podSelector: { matchExpressions: [{ key: app, operator: In, \
         values: [alien, far] }] } }] }]\n",
    );
    m.expect("both selectors", ["", ALL, ALL]);
    m.near.say(&["label", "pod", "far", "app=other", "--overwrite"]);
    m.expect("a pod's label changes", ["", "", ALL]);
    let far = m.near.path(&["pod", "far"], "{.status.podIP}").unwrap();
    m.policy(
        "server",
        &format!("  ingress: [{{ from: [{{ ipBlock: {{ cidr: 10.0.0.0/8, except: [{far}/32] }} }}] }}]\n"),
    );
    m.expect("a block with an exception", [ALL, "", ALL]);
    m.policy("server", "  ingress: [{ ports: [{ port: http }, { port: 53, protocol: UDP }] }]\n");
    m.expect("ports by name and number", ["dns http svc"; 3]);
    m.policy("server", "  ingress: [{ ports: [{ port: 9000, endPort: 9090 }] }]\n");
    m.expect("a range of ports", ["alt"; 3]);
    assert_eq!(
        m.near.path(&["pod", "server"], "{.status.conditions[?(@.type==\"Ready\")].status}").unwrap(),
        "True",
        "the node's own probes pass"
    );

    m.policy("near", "  policyTypes: [Egress]\n");
    m.expect("one client sends nothing", ["", ALL, ALL]);
    m.policy(
        "near",
        "  policyTypes: [Egress]\n  egress: [{ to: [{ podSelector: { matchLabels: { app: server } } }], ports: [{ port: \
         http }, { port: 53, protocol: UDP }] }]\n",
    );
    m.expect("to a selector, by name and number", ["dns http svc", ALL, ALL]);
    let server = &m.server;
    m.policy(
        "near",
        &format!("  policyTypes: [Egress]\n  egress: [{{ to: [{{ ipBlock: {{ cidr: 0.0.0.0/0, except: [{server}/32] }} }}] }}]\n"),
    );
    m.expect("to everywhere but the server", ["", ALL, ALL]);
    m.near.say(&["delete", "networkpolicy", "p"]);
    m.expect("no policy again", [ALL; 3]);
}

/// The rules are there before the pod: its first connection is refused like its last.
#[test]
fn a_new_pod_never_sends_what_its_policies_forbid() {
    let ns = Namespace::new("netpol-first");
    ns.apply(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: p }\n\
         spec: { podSelector: { matchLabels: { app: mute } }, policyTypes: [Egress] }\n",
    );
    let node = ns.path(&["nodes"], "{.items[0].metadata.name}").unwrap();
    ns.apply(&pod("server", &node, SERVER, PORTS));
    ns.ready("server");
    let server = ns.path(&["pod", "server"], "{.status.podIP}").unwrap();
    let call = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10; do timeout 0.3 wget -q -O /dev/null http://{server}:8080/ && echo reached; done; \
         echo end; sleep 3600"
    );
    ns.apply(&[pod("mute", &node, &call, ""), pod("free", &node, &call, "")].join("---"));
    let logs = |pod: &str| {
        within("its calls end", Duration::from_secs(30), || {
            let said = ns.kubectl(&["logs", pod])?;
            ensure!(said.contains("end"), "{said}");
            Ok(said)
        })
    };
    assert_eq!(logs("mute"), "end\n");
    assert!(logs("free").contains("reached"));
}
