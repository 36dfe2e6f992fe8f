//! A matrix of network policies: every kind of peer and of port, in both directions. After each change `near`
//! (on the same node as `own`), `far` (on another) and `alien` (of another namespace) speak with `own` over TCP
//! and UDP, by address and by Service, or `own` with them.

use anyhow::{Result, ensure};
use kybern_e2e::{Namespace, run, within};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a change may take to hold.
const SOON: Duration = Duration::from_secs(15);
const OTHERS: [&str; 3] = ["near", "far", "alien"];
const ALL: &str = "alt dns http svc";
const NONE: &str = "";

/// Two ports over TCP, none over UDP, and a Service. Ready by a probe of the node, whatever policies say.
fn server(name: &str, node: &str) -> String {
    let command = "hostname >/tmp/index.html; httpd -p 8080 -h /tmp; exec httpd -f -p 9090 -h /tmp";
    let container = json!({
        "name": "main", "image": "kybern.local/web:1", "command": ["/bin/sh", "-c", command],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "alt", "containerPort": 9090},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "livenessProbe": {"tcpSocket": {"port": "alt"}, "periodSeconds": 1},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [pod, service]}).to_string()
}

/// The names of the first and the last node.
fn nodes(ns: &Namespace) -> (String, String) {
    let nodes = ns.path(&["nodes"], "{.items[*].metadata.name}").unwrap();
    let nodes: Vec<&str> = nodes.split(' ').collect();
    (nodes[0].to_owned(), nodes[nodes.len() - 1].to_owned())
}

#[derive(Clone)]
struct Target {
    address: String,
    service: String,
}

impl Target {
    fn of(ns: &Namespace, name: &str) -> Self {
        ns.ready(name);
        let address = ns.path(&["pod", name], "{.status.podIP}").unwrap();
        Self { address, service: ns.path(&["service", name], "{.spec.clusterIP}").unwrap() }
    }

    /// Asks all its ports at once.
    fn probe(&self, label: &str) -> Probe {
        let Self { address, service } = self;
        let get = |port: &str, to: &str| {
            format!("(timeout 2 wget -q -O /dev/null http://{to}/ >/dev/null 2>&1 && echo {label}{port}) & ")
        };
        let heard = format!("/tmp/dns-{address}");
        let dns = format!("timeout 2 nslookup -type=a x.test {address} >{heard} 2>&1 & ");
        let begin =
            get("http", &format!("{address}:8080")) + &get("alt", &format!("{address}:9090")) + &get("svc", service);
        // Over UDP it is the pod's kernel that answers: that nobody listens.
        Probe { begin: begin + &dns, end: format!("grep -q refused {heard} && echo {label}dns; ") }
    }
}

/// Shell commands that say what answers.
#[derive(Default)]
struct Probe {
    begin: String,
    end: String,
}

impl Probe {
    fn and(self, other: Self) -> Self {
        Self { begin: self.begin + &other.begin, end: self.end + &other.end }
    }
    /// What has not answered after a while is not waited for.
    fn script(&self) -> String {
        format!("({} sleep 0.5; {} kill $(jobs -p)) 2>/dev/null; true", self.begin, self.end)
    }
}

/// What a pod says to probes, in order.
fn say(ns: &Namespace, pod: &str, probe: &Probe) -> Result<Vec<String>> {
    let said = ns.kubectl(&["exec", pod, "--", "sh", "-c", &probe.script()])?;
    let mut reached: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
    reached.sort_unstable();
    Ok(reached)
}

struct Matrix {
    ns: Namespace,
    other: Namespace,
    direction: &'static str,
    own: Target,
    others: [Target; 3],
}

impl Matrix {
    fn new(direction: &'static str) -> Self {
        let ns = Namespace::new(&format!("netpol-{direction}"));
        let other = Namespace::new(&format!("netpol-{direction}-other"));
        run(&["label", "namespace", other.name(), "team=blue"], None).expect("a label");
        let (first, last) = nodes(&ns);
        for (name, node) in [("own", &first), ("near", &first), ("far", &last)] {
            ns.apply(&server(name, node));
        }
        other.apply(&server("alien", &last));
        let others = OTHERS.map(|name| Target::of(if name == "alien" { &other } else { &ns }, name));
        Self { own: Target::of(&ns, "own"), ns, other, direction, others }
    }

    fn incoming(&self) -> bool {
        self.direction == "ingress"
    }

    fn home(&self, pod: &str) -> &Namespace {
        if pod == "alien" { &self.other } else { &self.ns }
    }

    /// What `near`, `far` and `alien` reach of `own`, or `own` of them.
    fn probe(&self) -> Result<[String; 3]> {
        if !self.incoming() {
            let probes = OTHERS.iter().zip(&self.others).map(|(name, t)| t.probe(&format!("{name}:")));
            let said = say(&self.ns, "own", &probes.fold(Probe::default(), Probe::and))?;
            return Ok(OTHERS.map(|name| {
                let of = said.iter().filter_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
                of.collect::<Vec<_>>().join(" ")
            }));
        }
        let probes = self.own.probe("");
        let said = std::thread::scope(|scope| {
            let threads = OTHERS.map(|pod| scope.spawn(|| say(self.home(pod), pod, &probes)));
            threads.map(|t| t.join().expect("a probe"))
        });
        let [near, far, alien] = said;
        Ok([near?.join(" "), far?.join(" "), alien?.join(" ")])
    }

    fn expect(&self, what: &str, want: [&str; 3]) {
        within(&format!("{}: {what}", self.direction), SOON, || {
            let have = self.probe()?;
            ensure!(have == want, "near, far and alien: {have:?}, not {want:?}");
            Ok(())
        });
    }

    /// A policy for `own` in this direction, with these rules.
    fn policy(&self, name: &str, rules: Value) {
        let kind = if self.incoming() { "Ingress" } else { "Egress" };
        let mut spec = json!({"podSelector": {"matchLabels": {"app": "own"}}, "policyTypes": [kind]});
        spec[self.direction] = rules;
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name}, "spec": spec});
        self.ns.apply(&policy.to_string());
    }

    /// A rule with these peers (none: everybody) and ports (none: all).
    fn rule(&self, peers: Value, ports: Value) -> Value {
        let side = if self.incoming() { "from" } else { "to" };
        let mut rule = json!({});
        for (key, list) in [(side, peers), ("ports", ports)] {
            if list != json!([]) {
                rule[key] = list;
            }
        }
        rule
    }

    fn peers(&self) {
        let [_, far, alien] = self.others.clone().map(|t| format!("{}/32", t.address));
        let app = |name: &str| json!({"matchLabels": {"app": name}});
        let among =
            |op: &str, names: &[&str]| json!({"matchExpressions": [{"key": "app", "operator": op, "values": names}]});
        let blue = json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}});
        for (what, peers, want) in [
            ("everybody", json!([]), [ALL, ALL, ALL]),
            ("pods by label", json!([{"podSelector": app("near")}]), [ALL, NONE, NONE]),
            ("all pods of the namespace", json!([{"podSelector": {}}]), [ALL, ALL, NONE]),
            ("pods by expression", json!([{"podSelector": among("NotIn", &["far"])}]), [ALL, NONE, NONE]),
            ("a namespace", json!([blue]), [NONE, NONE, ALL]),
            ("all namespaces", json!([{"namespaceSelector": {}}]), [ALL, ALL, ALL]),
            (
                "pods of namespaces",
                json!([{"namespaceSelector": {}, "podSelector": among("In", &["far", "alien"])}]),
                [NONE, ALL, ALL],
            ),
            ("either of two", json!([{"podSelector": app("near")}, blue]), [ALL, NONE, ALL]),
            ("a block", json!([{"ipBlock": {"cidr": alien}}]), [NONE, NONE, ALL]),
            ("a block but", json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": [far]}}]), [ALL, NONE, ALL]),
        ] {
            self.policy("p", json!([self.rule(peers, json!([]))]));
            self.expect(what, want);
        }
    }

    fn ports(&self) {
        for (what, ports, want) in [
            ("a number", json!([{"port": 8080}]), "http svc"),
            ("names", json!([{"port": "http"}, {"port": "dns", "protocol": "UDP"}]), "dns http svc"),
            ("a name of another protocol", json!([{"port": "http", "protocol": "UDP"}]), NONE),
            ("a range", json!([{"port": 9000, "endPort": 9090}]), "alt"),
            ("a protocol", json!([{"protocol": "UDP"}]), "dns"),
            ("another protocol", json!([{"protocol": "SCTP"}]), NONE),
        ] {
            self.policy("p", json!([self.rule(json!([]), ports)]));
            self.expect(what, [want; 3]);
        }
    }

    /// What policies select changes, and policies add up.
    fn changes(&self) {
        let near = json!([{"podSelector": {"matchLabels": {"role": "friend"}}}]);
        let blue = json!([{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]);
        self.policy("p", json!([self.rule(near, json!([{"port": "alt"}]))]));
        self.expect("no pod has the label", [NONE; 3]);
        self.ns.say(&["label", "pod", "near", "role=friend"]);
        self.expect("one has it", ["alt", NONE, NONE]);
        self.policy("q", json!([self.rule(blue, json!([]))]));
        self.expect("two policies add up", ["alt", NONE, ALL]);
        run(&["label", "namespace", self.other.name(), "team=red", "--overwrite"], None).expect("a label");
        self.expect("the namespace's label changes", ["alt", NONE, NONE]);
        self.ns.say(&["label", "pod", "own", "app=free", "--overwrite"]);
        // Its Service no longer finds it.
        let all = if self.incoming() { "alt dns http" } else { ALL };
        self.expect("no policy selects the pod any more", [all; 3]);
        self.ns.say(&["label", "pod", "own", "app=own", "--overwrite"]);
        self.ns.say(&["delete", "networkpolicy", "p"]);
        self.expect("one policy goes", [NONE; 3]);
        self.ns.say(&["delete", "networkpolicy", "q"]);
        self.expect("the last policy goes", [ALL; 3]);
    }

    fn run(&self) {
        self.expect("no policy", [ALL; 3]);
        self.policy("p", json!([]));
        self.expect("nobody", [NONE; 3]);
        self.peers();
        self.ports();
        self.changes();
        let path = "{.items[*].status.containerStatuses[*].restartCount}";
        assert_eq!(self.ns.path(&["pods"], path).unwrap(), "0 0 0", "the node's probes pass, whatever policies say");
    }
}

#[test]
fn what_comes_in() {
    Matrix::new("ingress").run();
}

#[test]
fn what_goes_out() {
    Matrix::new("egress").run();
}

/// The rules are there before the pod: its first connection is refused like its last. Who shares the node's
/// network is the node.
#[test]
fn a_new_pod_never_sends_what_its_policies_forbid() {
    let ns = Namespace::new("netpol-first");
    let deny = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"},
        "spec": {"podSelector": {"matchLabels": {"app": "mute"}}, "policyTypes": ["Egress", "Ingress"]}});
    ns.apply(&deny.to_string());
    let (node, _) = nodes(&ns);
    ns.apply(&server("own", &node));
    ns.apply(&server("mute", &node));
    let (own, mute) = (Target::of(&ns, "own"), Target::of(&ns, "mute"));
    let call = format!(
        "for i in 1 2 3 4 5 6; do timeout 0.3 wget -q -O /dev/null http://{}:8080/ && echo reached; done 2>/dev/null; echo end",
        own.address
    );
    let probes = mute.probe("").script();
    for (name, label, command, host) in
        [("silent", "mute", &call, false), ("free", "free", &call, false), ("host", "host", &probes, true)]
    {
        let container = json!({"name": "main", "image": "kybern.local/web:1", "command": ["/bin/sh", "-c", command]});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": label}},
            "spec": {"nodeName": node, "hostNetwork": host, "restartPolicy": "Never", "containers": [container]},
        });
        ns.apply(&pod.to_string());
    }
    let log = |pod: &str| {
        within("its calls end", Duration::from_secs(30), || {
            let phase = ns.path(&["pod", pod], "{.status.phase}")?;
            ensure!(["Succeeded", "Failed"].contains(&phase.as_str()), "{phase}");
            ns.kubectl(&["logs", pod])
        })
    };
    assert_eq!(log("silent"), "end\n");
    assert!(log("free").contains("reached"));
    let said = log("host");
    assert!(["alt", "dns", "http"].iter().all(|p| said.contains(p)), "the node reaches its pods: {said}");
}
