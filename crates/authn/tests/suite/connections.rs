//! Handshakes: who is let in by TLS, and who is not believed.

use crate::support::at;
use kybern_authn::pki::{Authority, ClusterKeys, San, Subject};
use kybern_authn::tls::{self, Identity, Trust};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Shakes hands in memory; the server's view of the client's chain, or the client's error.
async fn connect(client: ClientConfig, server: ServerConfig, name: &str) -> Result<usize, String> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far).await?;
        let certificates = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
        stream.write_all(&[certificates as u8]).await?;
        stream.shutdown().await?;
        std::io::Result::Ok(())
    });
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let answer = async {
        let mut stream = connector.connect(name, near).await?;
        stream.read_u8().await
    };
    let answer = answer.await.map(usize::from).map_err(|e| e.to_string());
    let _ = serving.await.expect("the server's task ends");
    answer
}

/// rustls asks the machine's clock.
#[expect(clippy::disallowed_methods, reason = "rustls reads the same clock")]
fn keys() -> (ClusterKeys, jiff::Timestamp) {
    let now = jiff::Timestamp::now();
    (ClusterKeys::create(now).expect("keys"), now)
}

fn trust(ca: &Authority) -> Arc<Trust> {
    Trust::new(ca.trusted()).expect("trust")
}

fn identity(issued: &kybern_authn::pki::Issued) -> Arc<Identity> {
    Identity::new(issued).expect("identity")
}

#[tokio::test]
async fn the_api_port_takes_any_certificate_whose_key_is_proved() {
    let (ours, now) = keys();
    let (foreign, _) = keys();
    let serving = identity(&ours.serving_certificate("s1", &[], "cluster.local", now).expect("issued"));
    let server = || tls::api_server(serving.clone()).expect("server");
    let client = |show: Option<Arc<Identity>>| tls::client(trust(&ours.server_ca), show).expect("client");
    assert_eq!(connect(client(None), server(), "localhost").await, Ok(0));
    let admin = identity(&ours.admin_certificate(now).expect("issued"));
    assert_eq!(connect(client(Some(admin)), server(), "localhost").await, Ok(2));
    // a foreign CA is no TLS alert: the request gets its 401
    let stranger = identity(&foreign.admin_certificate(now).expect("issued"));
    assert_eq!(connect(client(Some(stranger)), server(), "localhost").await, Ok(2));
    assert!(connect(client(None), server(), "example.com").await.is_err(), "the server's name is checked");
    let wrong = tls::client(trust(&foreign.server_ca), None).expect("client");
    assert!(connect(wrong, server(), "localhost").await.is_err(), "the server's CA is checked");
}

#[tokio::test]
async fn somebody_elses_certificate_is_of_no_use_without_its_key() {
    let (ours, now) = keys();
    let mut stolen = ours.admin_certificate(now).expect("issued");
    stolen.key = ours.admin_certificate(now).expect("issued").key;
    assert!(Identity::new(&stolen).is_err());
}

#[tokio::test]
async fn a_serving_certificate_is_replaced_without_a_restart() {
    let (ours, now) = keys();
    let (next, _) = keys();
    let serving = identity(&ours.serving_certificate("s1", &[], "cluster.local", now).expect("issued"));
    let client = |keys: &ClusterKeys| tls::client(trust(&keys.server_ca), None).expect("client");
    let server = || tls::api_server(serving.clone()).expect("server");
    assert!(connect(client(&next), server(), "localhost").await.is_err());
    serving.replace(&next.serving_certificate("s1", &[], "cluster.local", now).expect("issued")).expect("replaced");
    assert_eq!(connect(client(&next), server(), "localhost").await, Ok(0));
}

#[tokio::test]
async fn peers_believe_peers_only() {
    let (ours, now) = keys();
    let names = [San::host("127.0.0.1")];
    let peer = identity(&ours.peer_certificate("s1", &names, now).expect("issued"));
    let server = || tls::peer_server(peer.clone(), trust(&ours.peer_ca)).expect("server");
    let client = |show| tls::client(trust(&ours.peer_ca), show).expect("client");
    assert_eq!(connect(client(Some(peer.clone())), server(), "127.0.0.1").await, Ok(2));
    assert!(connect(client(None), server(), "127.0.0.1").await.is_err(), "no certificate");
    let admin = identity(&ours.admin_certificate(now).expect("issued"));
    assert!(connect(client(Some(admin)), server(), "127.0.0.1").await.is_err(), "a client's certificate");
    assert!(connect(client(Some(peer.clone())), server(), "10.9.9.9").await.is_err(), "another peer's address");
}

#[tokio::test]
async fn peers_go_on_speaking_through_every_step_of_a_rotation() {
    let (old, now) = keys();
    let names = [San::host("127.0.0.1")];
    let issue = |keys: &ClusterKeys| keys.peer_certificate("s1", &names, now).expect("issued");
    let member = |keys: &ClusterKeys| (identity(&issue(keys)), trust(&keys.peer_ca));
    let (ours, theirs) = (member(&old), member(&old));
    let connected = || {
        let client = tls::client(ours.1.clone(), Some(ours.0.clone())).expect("client");
        let server = tls::peer_server(theirs.0.clone(), theirs.1.clone()).expect("server");
        connect(client, server, "127.0.0.1")
    };
    let take = |(identity, trust): &(Arc<Identity>, Arc<Trust>), keys: &ClusterKeys| {
        trust.replace(keys.peer_ca.trusted()).expect("trust");
        identity.replace(&issue(keys)).expect("identity");
    };
    let leaf_before = issue(&old);
    let announced = old.announce("ca:1", now).expect("announced");
    let switched = announced.switch().expect("switched");
    let dropped = switched.drop_old().expect("dropped");
    // one member takes a step while the other has not yet, then both have
    for step in [&announced, &switched, &dropped] {
        take(&ours, step);
        assert_eq!(connected().await, Ok(2));
        take(&theirs, step);
        assert_eq!(connected().await, Ok(2));
    }
    let late = tls::client(ours.1.clone(), Some(identity(&leaf_before))).expect("client");
    let server = tls::peer_server(theirs.0.clone(), theirs.1.clone()).expect("server");
    assert!(connect(late, server, "127.0.0.1").await.is_err(), "the old CA vouches for nobody any more");
    let old_server = tls::peer_server(identity(&leaf_before), theirs.1.clone()).expect("server");
    let client = tls::client(ours.1.clone(), Some(ours.0.clone())).expect("client");
    assert!(connect(client, old_server, "127.0.0.1").await.is_err(), "and for no server");
}

#[tokio::test]
async fn a_pinned_hash_believes_one_ca() {
    let (ours, now) = keys();
    let (foreign, _) = keys();
    let pin = |keys: &ClusterKeys| {
        let token = kybern_authn::join::JoinToken::generate(keys.server_ca.der()).expect("token");
        tls::pinned_client(token.ca_hash).expect("client")
    };
    let serving = |keys: &ClusterKeys| {
        let issued = keys.serving_certificate("s1", &[], "cluster.local", now).expect("issued");
        tls::api_server(identity(&issued)).expect("server")
    };
    assert_eq!(connect(pin(&ours), serving(&ours), "localhost").await, Ok(0));
    assert!(connect(pin(&ours), serving(&foreign), "localhost").await.is_err());
    assert!(connect(pin(&ours), serving(&ours), "example.com").await.is_err(), "the name counts");
    // a man in the middle sends along the true CA with a leaf of his own
    let mut forged = foreign.serving_certificate("s1", &[], "cluster.local", now).expect("issued");
    forged.chain.push_str(&ours.server_ca.certificate_pem());
    let middle = tls::api_server(identity(&forged)).expect("server");
    assert!(connect(pin(&ours), middle, "localhost").await.is_err());
    // a node's client certificate does not make a server
    let sans = [San::host("localhost")];
    let subject = Subject { common_name: "system:node:n1", sans: &sans, client: true, ..Subject::default() };
    let client_only = ours.server_ca.issue(&subject, now, jiff::SignedDuration::from_hours(1)).expect("issued");
    let misused = tls::api_server(identity(&client_only)).expect("server");
    assert!(connect(pin(&ours), misused, "localhost").await.is_err());
}

#[test]
fn expired_keys_are_told_apart_from_times() {
    // certificates are made for the injected time, not the machine's
    let keys = ClusterKeys::create(at(0)).expect("keys");
    assert_eq!(keys.client_ca.not_after().as_second(), at(10 * 365 * 86_400).as_second());
}
