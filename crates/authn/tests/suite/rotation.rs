//! CAs replaced step by step, and what an expired node certificate is still good for.

use crate::support::{Cluster, at, known, refusal};
use jiff::SignedDuration;
use kybern_authn::Outcome;
use kybern_authn::pki::{ClusterKeys, Phase, certificates, fingerprint};

const DAY: i64 = 86_400;

/// The sets of keys that follow one another.
struct Steps {
    founded: ClusterKeys,
    announced: ClusterKeys,
    switched: ClusterKeys,
    dropped: ClusterKeys,
}

fn steps() -> Steps {
    let founded = ClusterKeys::create(at(0)).expect("keys");
    let announced = founded.announce("ca:1", at(10)).expect("announced");
    let switched = announced.switch().expect("switched");
    let dropped = switched.drop_old().expect("dropped");
    Steps { founded, announced, switched, dropped }
}

#[test]
fn every_domain_gets_a_new_ca_and_loses_the_old_one_last() {
    let s = steps();
    let all = [&s.founded, &s.announced, &s.switched, &s.dropped];
    assert_eq!(all.map(|k| k.phase()), [Phase::Settled, Phase::Announced, Phase::Switched, Phase::Settled]);
    assert_eq!(all.map(|k| k.rotation.generation), [0, 1, 2, 3]);
    assert_eq!(all.map(|k| k.rotation.leaves), [0, 0, 2, 2], "leaves are made anew when the new CA signs");
    for domain in 0..3 {
        let ca = |keys: &ClusterKeys| keys.authorities()[domain].1.trusted().to_vec();
        let (old, new) = (ca(&s.founded)[0].clone(), ca(&s.dropped)[0].clone());
        assert_ne!(old, new);
        assert_eq!(ca(&s.announced), [old.clone(), new.clone()], "the old one signs, both are trusted");
        assert_eq!(ca(&s.switched), [new.clone(), old.clone()], "the new one signs, both are trusted");
        assert_eq!(ca(&s.dropped), [new]);
    }
    assert_eq!(s.dropped.rotation.retired, [s.founded.server_ca.fingerprint()]);
    assert!(s.dropped.knows_server_ca(&s.founded.server_ca.fingerprint()), "join tokens may still name it");
    assert!(!s.dropped.knows_server_ca(&s.founded.client_ca.fingerprint()));
}

#[test]
fn steps_out_of_order_are_refused() {
    let s = steps();
    assert!(s.founded.switch().is_err() && s.founded.drop_old().is_err());
    assert!(s.announced.announce("ca:2", at(11)).is_err() && s.announced.drop_old().is_err());
    assert!(s.announced.renew_leaves("leaves:2").is_err());
    assert!(s.switched.announce("ca:2", at(11)).is_err() && s.switched.switch().is_err());
    let again = s.dropped.announce("ca:2", at(DAY)).expect("a second rotation").switch().expect("switched");
    assert_eq!(again.drop_old().expect("dropped").rotation.retired.len(), 2);
}

#[test]
fn every_step_survives_disk_and_the_way_to_another_server() {
    let s = steps();
    let dir = tempfile::tempdir().expect("dir");
    for keys in [&s.founded, &s.announced, &s.switched, &s.dropped] {
        keys.save(dir.path()).expect("saved");
        let loaded = ClusterKeys::load(dir.path()).expect("loaded").expect("there");
        assert_eq!(loaded.to_bundle().expect("bundle"), keys.to_bundle().expect("bundle"));
        assert_eq!((loaded.phase(), &loaded.rotation), (keys.phase(), &keys.rotation));
    }
    // whoever takes over in the middle goes on with the same new CAs
    s.announced.save(dir.path()).expect("saved");
    let other = ClusterKeys::load(dir.path()).expect("loaded").expect("there").switch().expect("switched");
    assert_eq!(other.to_bundle().expect("bundle"), s.switched.to_bundle().expect("bundle"));
    assert!(!format!("{:?}", s.announced).contains("PRIVATE"), "no key in a debug print");
}

#[test]
fn a_set_written_before_there_was_rotation_is_read() {
    let keys = ClusterKeys::create(at(0)).expect("keys");
    let mut bundle: serde_json::Value = serde_json::from_str(&keys.to_bundle().expect("bundle")).expect("JSON");
    bundle.as_object_mut().expect("an object").remove("rotation").expect("it is there");
    assert_eq!(ClusterKeys::from_bundle(&bundle.to_string()).expect("read").rotation, keys.rotation);
}

#[test]
fn users_are_known_through_every_step_and_by_new_certificates_after_the_last() {
    let (s, cluster) = (steps(), Cluster::new());
    let old =
        s.founded.client_certificate("jane", &["devs", "ops"], at(0), SignedDuration::from_hours(48)).expect("old");
    for keys in [&s.founded, &s.announced, &s.switched] {
        cluster.assembly.x509.set_authorities(keys.client_ca.trusted()).expect("set");
        let renewed = keys.reissue(&old.chain, at(20)).expect("reissued").expect("one of ours");
        for chain in [&old.chain, &renewed.chain] {
            let user = known(cluster.certificate(chain, 20));
            assert_eq!((user.name.as_str(), &user.groups[..2]), ("jane", &["devs".to_owned(), "ops".to_owned()][..]));
        }
        known(cluster.certificate(&renewed.chain, 20 + 2 * DAY));
        refusal(cluster.certificate(&renewed.chain, 21 + 2 * DAY));
    }
    let renewed = s.switched.reissue(&old.chain, at(20)).expect("reissued").expect("one of ours");
    cluster.assembly.x509.set_authorities(s.dropped.client_ca.trusted()).expect("set");
    known(cluster.certificate(&renewed.chain, 21));
    refusal(cluster.certificate(&old.chain, 21));
    assert!(s.dropped.reissue(&old.chain, at(30)).expect("judged").is_none(), "nobody's certificate any more");
    let stranger = ClusterKeys::create(at(0)).expect("keys").admin_certificate(at(0)).expect("issued");
    assert!(s.founded.reissue(&stranger.chain, at(1)).expect("judged").is_none(), "a stranger's is not renewed");
}

#[test]
fn a_certificate_of_the_retired_ca_does_not_come_back_by_a_name() {
    // Old and new CAs of one second have one name: only the key counts.
    let founded = ClusterKeys::create(at(0)).expect("keys");
    let old = founded.admin_certificate(at(0)).expect("issued");
    let same_second = founded.announce("ca:1", at(0)).expect("announced").switch().expect("switched");
    let dropped = same_second.drop_old().expect("dropped");
    let cluster = Cluster::new();
    cluster.assembly.x509.set_authorities(dropped.client_ca.trusted()).expect("set");
    refusal(cluster.certificate(&old.chain, 1));
    known(cluster.certificate(&dropped.admin_certificate(at(0)).expect("issued").chain, 1));
}

/// Node n1 with a certificate of 100 days, last heard of on day `heard`.
fn node(heard: Option<i64>) -> (Cluster, String) {
    let cluster = Cluster::new();
    let life = SignedDuration::from_hours(100 * 24);
    let issued = cluster.keys.client_certificate("system:node:n1", &["system:nodes"], at(0), life).expect("issued");
    cluster.world.put("nodes", "", "n1", "u1", None, "{}");
    if let Some(day) = heard {
        let lease = format!(r#"{{"spec":{{"renewTime":"{}"}}}}"#, at(day * DAY));
        cluster.world.put("leases", "kube-node-lease", "n1", "u2", None, &lease);
    }
    (cluster, issued.chain)
}

#[test]
fn a_node_that_was_off_until_its_certificate_expired_may_ask_for_the_next() {
    let (cluster, chain) = node(Some(60));
    assert_eq!(known(cluster.certificate(&chain, 99 * DAY)).node_name(), Some("n1"));
    let user = known(cluster.certificate(&chain, 400 * DAY));
    assert_eq!(user.name, "system:node:n1");
    assert_eq!(user.groups, ["kybern:expired-nodes", "system:authenticated"], "no right of a node");
    assert_eq!(user.node_name(), None);
}

#[test]
fn an_expired_certificate_is_of_no_use_where_the_node_has_had_a_newer_one() {
    let (cluster, chain) = node(Some(101));
    assert!(refusal(cluster.certificate(&chain, 102 * DAY)).contains("newer one"));
}

#[test]
fn nor_of_a_node_that_is_gone_or_was_never_heard_of() {
    let absent = |cluster: &Cluster, chain: &str| {
        let outcome = cluster.certificate(chain, 102 * DAY);
        assert!(matches!(&outcome, Outcome::Absent(_)), "{outcome:?}");
    };
    let (cluster, chain) = node(None);
    absent(&cluster, &chain);
    let (cluster, chain) = node(Some(60));
    cluster.world.remove("nodes", "", "n1");
    absent(&cluster, &chain);
}

#[test]
fn nor_when_it_was_revoked_or_its_ca_is_gone() {
    let (cluster, chain) = node(Some(60));
    let hash = fingerprint(&certificates(&chain).expect("PEM")[0]);
    let list = format!(r#"{{"data":{{"{hash}":"stolen"}}}}"#);
    cluster.world.put("configmaps", "kube-system", "kybern-revoked-certificates", "u", None, &list);
    assert!(refusal(cluster.certificate(&chain, 102 * DAY)).contains("revoked"));
    let (cluster, chain) = node(Some(60));
    let other = ClusterKeys::create(at(0)).expect("keys");
    cluster.assembly.x509.set_authorities(other.client_ca.trusted()).expect("set");
    refusal(cluster.certificate(&chain, 102 * DAY));
    let (cluster, chain) = node(Some(60));
    refusal(cluster.certificate(&chain, 11 * 365 * DAY));
}

#[test]
fn people_never_come_back_with_an_expired_certificate() {
    let (cluster, _) = node(Some(0));
    let life = SignedDuration::from_hours(1);
    for (user, groups) in
        [("jane", &["system:nodes"][..]), ("system:node:n1", &["devs"]), ("root", &["system:masters"])]
    {
        let issued = cluster.keys.client_certificate(user, groups, at(0), life).expect("issued");
        refusal(cluster.certificate(&issued.chain, 2 * DAY));
    }
}
