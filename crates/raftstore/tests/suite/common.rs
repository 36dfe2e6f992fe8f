//! Stores to run the guarantees on: the memory model, and real members with real TLS on loopback.

use bytes::Bytes;
use kybern_raftstore::memory::MemoryStore;
use kybern_raftstore::model::{Guard, Op, Revision, Txn, TxnOutcome, WatchItem};
use kybern_raftstore::node::{Config, LogLimits, RaftStore, Timing};
use kybern_raftstore::store::{Error, Store, Watch};
use kybern_raftstore::{Member, MemberId, Retention};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Everything in a test ends within this.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Certificates of one CA for members on 127.0.0.1.
#[derive(Clone)]
pub struct Tls {
    pub server: Arc<rustls::ServerConfig>,
    pub client: Arc<rustls::ClientConfig>,
}

impl Tls {
    pub fn new() -> Self {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let chain = vec![leaf.der().clone()];
        let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key())
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key())
            .unwrap();
        Self { server: Arc::new(server), client: Arc::new(client) }
    }
}

/// A port nobody listens on now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn config(dir: &Path, id: Option<MemberId>, port: u16, tls: &Tls) -> Config {
    let address = format!("127.0.0.1:{port}");
    let meta = [("api".to_owned(), format!("127.0.0.1:{}", port.wrapping_add(1)))].into();
    Config {
        data_dir: dir.to_owned(),
        cluster: id.map(|_| "test-cluster".to_owned()),
        id,
        listen: address.clone(),
        advertise: Member { peer: address, meta },
        tls_server: tls.server.clone(),
        tls_client: tls.client.clone(),
        timing: Timing::default(),
        retention: Retention::default(),
        log: LogLimits::default(),
    }
}

/// A member in a runtime of its own, so that dropping it ends everything at once, as a kill does.
pub struct Node {
    pub store: Arc<RaftStore>,
    pub port: u16,
    runtime: Option<tokio::runtime::Runtime>,
    dir: Arc<TempDir>,
}

impl Node {
    pub async fn start(dir: Arc<TempDir>, config: Config) -> Self {
        let port = config.listen.rsplit(':').next().unwrap().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let start = async move { RaftStore::start(config, &mut Default::default()).await };
        let store = runtime.spawn(start).await.unwrap().unwrap();
        Self { store, port, runtime: Some(runtime), dir }
    }

    /// Ends the member without any farewell; its data directory.
    pub fn kill(self) -> Arc<TempDir> {
        self.dir.clone()
    }
}

impl Drop for Node {
    /// Waits for the end of every task, so that the database is closed when the last handle is dropped.
    fn drop(&mut self) {
        let runtime = self.runtime.take();
        let stopped = std::thread::spawn(move || runtime.map(|r| r.shutdown_timeout(Duration::from_secs(10)))).join();
        assert!(stopped.is_ok());
    }
}

/// A cluster of real members.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub tls: Tls,
}

impl Cluster {
    pub async fn new(size: usize) -> Self {
        Self::with(size, |_| {}).await
    }

    pub async fn with(size: usize, tune: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self { nodes: Vec::new(), tls: Tls::new() };
        for _ in 0..size {
            cluster.add(&tune).await;
        }
        cluster
    }

    /// Starts a member and makes it part of the cluster.
    pub async fn add(&mut self, tune: impl Fn(&mut Config)) {
        let dir = Arc::new(TempDir::new().unwrap());
        let id = match self.nodes.first() {
            None => RaftStore::FOUNDER,
            Some(first) => first.store.allocate_id().await.unwrap(),
        };
        let mut config = config(dir.path(), Some(id), free_port(), &self.tls);
        tune(&mut config);
        let node = Node::start(dir, config).await;
        match self.nodes.first() {
            None => node.store.init_cluster().await.unwrap(),
            Some(first) => node.store.join(&[format!("127.0.0.1:{}", first.port)]).await.unwrap(),
        }
        self.nodes.push(node);
    }

    /// Starts a killed member again, on its own port and data.
    pub async fn restart(&mut self, dir: Arc<TempDir>, port: u16) -> usize {
        let node = Node::start(dir.clone(), config(dir.path(), None, port, &self.tls)).await;
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Waits until somebody leads; its index.
    pub async fn leader(&self) -> usize {
        let any = self.nodes.iter().enumerate().map(|(index, node)| {
            let mut leadership = node.store.leadership();
            Box::pin(async move {
                leadership.wait_for(|now| now.leading).await.unwrap();
                index
            })
        });
        tokio::time::timeout(PATIENCE, futures::future::select_all(any)).await.expect("a leader").0
    }
}

/// What a guarantee runs on.
pub struct World {
    /// The members' stores; one for the memory model and a single member. Dropped before the members, so
    /// that these close their databases.
    pub stores: Vec<Arc<dyn Store>>,
    _cluster: Option<Cluster>,
}

impl World {
    pub async fn memory(retention: Retention) -> Self {
        Self { stores: vec![MemoryStore::with_retention(retention)], _cluster: None }
    }

    pub async fn members(size: usize, retention: Retention) -> Self {
        let cluster = Cluster::with(size, |config| config.retention = retention).await;
        let stores = cluster.nodes.iter().map(|node| node.store.clone() as Arc<dyn Store>).collect();
        Self { stores, _cluster: Some(cluster) }
    }

    pub fn first(&self) -> &Arc<dyn Store> {
        &self.stores[0]
    }

    pub fn last(&self) -> &Arc<dyn Store> {
        self.stores.last().unwrap()
    }
}

pub fn put_op(key: &str, value: &str) -> Op {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    Op::Put { key, value, stamp: None, lease: 0, ttl: None }
}

pub fn delete_op(key: &str) -> Op {
    Op::Delete(Bytes::copy_from_slice(key.as_bytes()))
}

pub fn ops(ops: Vec<Op>) -> Txn {
    Txn { ops, ..Txn::default() }
}

pub fn guarded(guards: Vec<Guard>, ops: Vec<Op>) -> Txn {
    Txn { guards, ops, term: 0 }
}

pub fn revision(outcome: &TxnOutcome) -> Revision {
    match outcome {
        TxnOutcome::Applied { revision, .. } | TxnOutcome::GuardFailed { revision, .. } => *revision,
    }
}

pub async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> Revision {
    revision(&store.txn(ops(vec![put_op(key, value)])).await.unwrap())
}

pub async fn delete(store: &Arc<dyn Store>, key: &str) -> Revision {
    revision(&store.txn(ops(vec![delete_op(key)])).await.unwrap())
}

/// The next item, which must come.
pub async fn next(watch: &mut Box<dyn Watch>) -> Result<WatchItem, Error> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch fell silent")
}

/// All `(revision, key, value or "-")` of a watch up to a revision.
pub async fn events_until(watch: &mut Box<dyn Watch>, until: Revision) -> Vec<(Revision, String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let mut seen = Vec::new();
    loop {
        let reached = match next(watch).await.unwrap() {
            WatchItem::Progress(revision) => revision,
            WatchItem::Events(revision, events) => {
                for event in events.iter() {
                    assert_eq!(event.revision, revision);
                    let value = event.current.as_ref().map_or("-".to_owned(), |kv| text(&kv.value));
                    seen.push((revision, text(&event.key), value));
                }
                revision
            }
        };
        if reached >= until {
            return seen;
        }
    }
}
