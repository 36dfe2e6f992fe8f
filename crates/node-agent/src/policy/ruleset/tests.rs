use super::*;
use crate::cni::BRIDGE;
use crate::net::lab::Lab;
use crate::net::netns;
use crate::nft::Table;
use crate::policy::frame::closed;
use ipnet::Ipv4Net;
use kybern_wire::node::{
    AddressSet, PolicyBlock, PolicyPod, PolicyPort, PolicyRule, PolicyRules, PolicyUpdate, SetMember,
};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const A: Ipv4Addr = Ipv4Addr::new(10, 42, 1, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 42, 1, 3);

fn own() -> Ipv4Net {
    "10.42.1.0/24".parse().unwrap()
}

fn pod(name: &str, policies: &[&str]) -> PolicyPod {
    PolicyPod { name: name.into(), policies: policies.iter().map(|p| (*p).to_owned()).collect() }
}

fn set(id: &str, with_ports: bool, members: &[(Ipv4Addr, u32)]) -> AddressSet {
    let add = members.iter().map(|(a, port)| SetMember { address: u32::from(*a), port: *port }).collect();
    AddressSet { id: id.into(), with_ports, fresh: true, add, remove: Vec::new() }
}

fn numbered(protocol: &str, first: u32, last: u32) -> PolicyPort {
    PolicyPort { protocol: protocol.into(), first, last, targets: String::new() }
}

fn holder(name: &str) -> Holder {
    Holder { owner: name.into(), pod: format!("d/{name}") }
}

fn held() -> BTreeMap<Ipv4Addr, Holder> {
    BTreeMap::from([(A, holder("a")), (B, holder("b"))])
}

/// `b` accepts what `rule` says.
fn world(rule: Option<PolicyRule>, sets: Vec<AddressSet>) -> Told {
    let mut told = Told::default();
    let policies = vec![PolicyRules {
        name: "d/p".into(),
        ingress: true,
        from: rule.into_iter().collect(),
        ..PolicyRules::default()
    }];
    told.take(PolicyUpdate {
        whole: true,
        pods: vec![pod("d/a", &[]), pod("d/b", &["d/p"])],
        policies,
        sets,
        ..PolicyUpdate::default()
    });
    told
}

#[test]
fn a_pod_that_nobody_told_of_has_no_door_and_an_unknown_policy_closes_one() {
    let mut told = Told::default();
    told.take(PolicyUpdate { whole: true, pods: vec![pod("d/a", &["d/lost"])], ..PolicyUpdate::default() });
    let rules = Ruleset::of(&told, &held());
    assert_eq!(rules.doors.keys().map(|(_, a)| *a).collect::<Vec<_>>(), [A, A]);
    let ours = BTreeMap::from([(B, Holder { owner: "b".into(), pod: OURS.into() })]);
    assert!(Ruleset::of(&told, &ours).doors.values().eq(["accept", "accept"]), "the node's own");
    assert_eq!(rules.chains["ingress-10-42-1-2"], ["ct original ip saddr 10.42.1.2 accept", "drop"]);
}

#[test]
fn a_new_member_is_one_element() {
    let peers = PolicyRule { sets: vec!["aa".into()], any_port: true, ..PolicyRule::default() };
    let mut told = world(Some(peers), vec![set("aa", false, &[(A, 0)])]);
    let before = Ruleset::of(&told, &held());
    told.take(PolicyUpdate {
        sets: vec![AddressSet { fresh: false, ..set("aa", false, &[(Ipv4Addr::new(10, 42, 9, 9), 0)]) }],
        ..PolicyUpdate::default()
    });
    let after = Ruleset::of(&told, &held());
    let text = after.since(&before);
    let (change, rest) = text.split_once('\n').unwrap();
    assert_eq!(change, "add element ip kybern-policy s-aa { 10.42.9.9 }");
    assert!(rest.lines().count() == 4 && rest.ends_with(&format!("ct mark set {}\n", after.number)), "{rest}");
    assert_ne!(after.number, before.number, "what was let through is judged again");
    assert_eq!(after.since(&after), "");
}

#[test]
fn an_id_that_is_no_name_is_left_out() {
    assert!(world(None, vec![set("x y", false, &[])]).sets.is_empty());
}

/// A node with two pods on a bridge, for real packets.
fn node() -> Lab {
    let lab = Lab::new("pol", &["n", "a", "b"]);
    lab.ip("n", &format!("link add {BRIDGE} type bridge"));
    lab.ip("n", &format!("addr add 10.42.1.1/24 dev {BRIDGE}"));
    lab.ip("n", &format!("link set {BRIDGE} up"));
    for (part, address) in [("a", A), ("b", B)] {
        let link = holder(part).link();
        lab.cable(part, &format!("{address}/24"), "n", &link);
        lab.ip("n", &format!("link set {link} master {BRIDGE}"));
        lab.ip(part, "route add default via 10.42.1.1");
    }
    lab.forward("n");
    lab
}

fn apply(lab: &Lab, text: String) {
    let work = move || async move { Table::open(TABLE)?.apply(&text).await.map_err(io::Error::other) };
    netns::run_in_async(&netns::path(&lab.part("n")), work).unwrap();
}

#[test]
fn packets_follow_the_rules_from_the_first_and_on_connections_that_run() {
    use std::io::{Read, Write};
    let node = node();
    let mut kernel = Ruleset::default();
    let mut put = |told: &Told, held: &BTreeMap<Ipv4Addr, Holder>| {
        let next = Ruleset::of(told, held);
        apply(&node, next.since(&kernel));
        kernel = next;
    };
    apply(&node, closed(own(), true));
    apply(&node, "table ip nat { chain p { type nat hook prerouting priority dstnat; ip daddr 10.43.0.7 tcp dport 80 dnat ip to 10.42.1.3:8080;\n }\n }\n".into());
    put(&Told::default(), &held());
    let listener = node.run("b", || TcpListener::bind((B, 8080))).unwrap();
    let (direct, service) = (SocketAddr::from((B, 8080)), SocketAddr::from(([10, 43, 0, 7], 80)));
    assert!(!node.reaches("a", direct), "closed while nobody has spoken");
    assert!(node.reaches("n", direct), "the node itself always reaches its pods");

    let open = PolicyRule { anybody: true, any_port: true, ..PolicyRule::default() };
    put(&world(Some(open), Vec::new()), &held());
    assert!(node.reaches("a", direct) && node.reaches("a", service), "open to everybody");
    let mut running = node.run("a", move || TcpStream::connect(service)).unwrap();
    running.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut accepted = listener.accept().unwrap().0;
    (0..3).for_each(|_| accepted = listener.accept().unwrap().0);
    accepted.write_all(b"1").unwrap();
    let mut byte = [0];
    running.read_exact(&mut byte).unwrap();

    put(&world(None, Vec::new()), &held());
    assert!(!node.reaches("a", direct) && !node.reaches("a", service), "denied, by address and by Service");
    accepted.write_all(b"2").unwrap();
    assert!(running.read_exact(&mut byte).is_err(), "a connection that runs is cut in both directions");

    let targets = PolicyRule {
        sets: vec!["aa".into()],
        ports: vec![PolicyPort { protocol: "TCP".into(), targets: "bb".into(), ..PolicyPort::default() }],
        ..PolicyRule::default()
    };
    put(&world(Some(targets), vec![set("aa", false, &[(A, 0)]), set("bb", true, &[(B, 8080)])]), &held());
    assert!(node.reaches("a", direct) && node.reaches("a", service), "by selector and a port's name");
    let except = PolicyBlock { cidr: "10.0.0.0/8".into(), except: vec!["10.42.1.2/32".into()] };
    let blocked = PolicyRule { blocks: vec![except], any_port: true, ..PolicyRule::default() };
    put(&world(Some(blocked), Vec::new()), &held());
    assert!(!node.reaches("a", direct), "an exception of a block");
    let ranged = PolicyRule { anybody: true, ports: vec![numbered("TCP", 8000, 8079)], ..PolicyRule::default() };
    put(&world(Some(ranged.clone()), Vec::new()), &held());
    assert!(!node.reaches("a", direct), "a port outside the range");
    let ranged = PolicyRule { ports: vec![numbered("TCP", 8000, 8080), numbered("SCTP", 0, 0)], ..ranged };
    put(&world(Some(ranged), Vec::new()), &held());
    assert!(node.reaches("a", direct), "a port inside the range");

    let a = node.run("a", || UdpSocket::bind((A, 5000))).unwrap();
    let b = node.run("b", || UdpSocket::bind((B, 5000))).unwrap();
    [&a, &b].iter().for_each(|s| s.set_read_timeout(Some(Duration::from_millis(300))).unwrap());
    a.send_to(b"x", (B, 5000)).unwrap();
    assert!(b.recv_from(&mut byte).is_err(), "another protocol");
    let b_begins = b.send_to(b"x", (A, 5000)).and_then(|_| a.recv_from(&mut byte));
    assert!(b_begins.is_ok(), "what the selected pod begins is free");
    a.send_to(b"y", (B, 5000)).unwrap();
    assert!(b.recv_from(&mut byte).is_ok(), "and is answered");

    let (_other, back) = (node.run("a", || TcpListener::bind((A, 9000))).unwrap(), SocketAddr::from((A, 9000)));
    assert!(node.reaches("b", back), "the other pod is open");
    put(&world(None, Vec::new()), &BTreeMap::from([(B, holder("b"))]));
    assert!(!node.reaches("b", back), "an address that was given back is closed");
    put(&Told::default(), &BTreeMap::new());

    put(&world(Some(PolicyRule { anybody: true, any_port: true, ..PolicyRule::default() }), Vec::new()), &held());
    a.send_to(b"1", (B, 5000)).unwrap();
    assert!(b.recv_from(&mut byte).is_ok());
    let other = Ipv4Addr::new(10, 42, 1, 9);
    node.ip("a", &format!("addr add {other}/24 dev eth0"));
    let forged = node.run("a", move || UdpSocket::bind((other, 5000))).unwrap();
    forged.send_to(b"2", (B, 5000)).unwrap();
    assert!(b.recv_from(&mut byte).is_err(), "what bears an address that is not the pod's");
}
