//! What makes servers ask each other how far they are, and what they say while they do not know.

use crate::cases::none;
use bytes::Bytes;
use kybern_api::seam::SystemIds;
use kybern_authn::issuer::{BoundRef, KubernetesClaim, TokenSpec};
use kybern_authn::pki::ClusterKeys;
use kybern_authn::{Assembly, TokenConfig};
use kybern_raftstore::memory::MemoryStore;
use kybern_raftstore::model::{Revision, Txn, TxnOutcome};
use kybern_raftstore::store::{Error, Leadership, Store, View, Watch};
use kybern_testkit::{Builder, START, World};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// A store that counts read barriers, and answers none before it may.
struct Counting {
    store: Arc<dyn Store>,
    barriers: AtomicUsize,
    caught_up: watch::Sender<bool>,
}

impl Counting {
    fn new(caught_up: bool) -> Arc<Self> {
        let caught_up = watch::Sender::new(caught_up);
        Arc::new(Self { store: MemoryStore::new(), barriers: AtomicUsize::new(0), caught_up })
    }
}

#[async_trait::async_trait]
impl Store for Counting {
    fn view(&self) -> Arc<dyn View> {
        self.store.view()
    }
    fn view_at(&self, revision: Revision) -> Result<Arc<dyn View>, Error> {
        self.store.view_at(revision)
    }
    async fn read_barrier(&self) -> Result<Revision, Error> {
        self.barriers.fetch_add(1, Ordering::Relaxed);
        self.caught_up.subscribe().wait_for(|yes| *yes).await.expect("the sender is ours");
        self.store.read_barrier().await
    }
    async fn wait_for(&self, revision: Revision, timeout: Duration) -> Result<(), Error> {
        self.store.wait_for(revision, timeout).await
    }
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        self.store.txn(txn).await
    }
    fn watch(&self, prefix: Bytes, from: Revision) -> Result<Box<dyn Watch>, Error> {
        self.store.watch(prefix, from)
    }
    fn oldest(&self) -> Revision {
        self.store.oldest()
    }
    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.store.leadership()
    }
}

fn assembly() -> Assembly {
    let keys = ClusterKeys::create(START.parse().expect("a time")).expect("keys");
    Assembly::new(&keys, &TokenConfig::for_domain("cluster.local")).expect("an assembly")
}

async fn code(world: &World, token: &str) -> u16 {
    world.call_as(token, "GET", "/api/v1/namespaces/default/configmaps", &none()).await.code
}

#[tokio::test(start_paused = true)]
async fn strangers_cause_few_rounds_between_servers() {
    let store = Counting::new(true);
    let (ours, foreign) = (assembly(), assembly());
    let claim = KubernetesClaim {
        namespace: "default".into(),
        serviceaccount: BoundRef { name: "default".into(), uid: "u".into() },
        pod: None,
        secret: None,
        node: None,
    };
    let spec = TokenSpec { claim, audiences: &[], lifetime: jiff::SignedDuration::from_hours(1) };
    let forged = foreign.issuer.mint(&spec, &SystemIds, START.parse().expect("a time")).expect("minted").token;
    let world = Builder::default().store(store.clone()).authenticator(ours.authenticator).start().await;
    let before = store.barriers.load(Ordering::Relaxed);
    for token in ["nonsense", &forged, "a.b.c", "abcdef.0123"] {
        assert_eq!(code(&world, token).await, 401, "{token}");
    }
    assert_eq!(store.barriers.load(Ordering::Relaxed), before, "what is bad stays bad");

    // A bootstrap token that nobody knows may have been made a moment ago: looked for again, in company.
    let crowd = (0..200).map(|i| {
        let world = world.clone();
        tokio::spawn(async move { code(&world, &format!("abcdef.{i:016}")).await })
    });
    for asked in crowd.collect::<Vec<_>>() {
        assert_eq!(asked.await.expect("the request ran"), 401);
    }
    let rounds = store.barriers.load(Ordering::Relaxed) - before;
    assert!((1..=2).contains(&rounds), "{rounds} rounds for 200 strangers at once");
}

#[tokio::test]
async fn a_token_is_good_at_once_on_every_server() {
    let (store, identity) = (MemoryStore::new(), assembly());
    let one = Builder::default().store(store.clone()).issuer(identity.issuer.clone()).start().await;
    let other = Builder::default().store(store).authenticator(identity.authenticator).empty().start().await;
    for i in 0..20 {
        let name = format!("account-{i}");
        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        assert_eq!(one.call("POST", accounts, &json!({"metadata": {"name": name}})).await.code, 201);
        let minted = one.call("POST", &format!("{accounts}/{name}/token"), &json!({"spec": {}})).await.json();
        let token = minted["status"]["token"].as_str().expect("a token").to_owned();
        assert_eq!(code(&other, &token).await, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_but_health_is_answered_before_the_store_has_caught_up() {
    let store = Counting::new(false);
    let world = Builder::default().store(store.clone()).empty().start().await;
    let began = tokio::time::Instant::now();
    let ready = world.call("GET", "/readyz?verbose", &none()).await;
    assert_eq!(ready.code, 500);
    assert!(ready.text().contains("[-]etcd failed") && ready.text().contains("[-]informer-sync failed"));
    assert_eq!(world.call("GET", "/livez", &none()).await.code, 200);
    assert_eq!(began.elapsed(), Duration::ZERO, "what is known is said at once");
    // Not even what any state would do for: it may be older than what was shown before a restart.
    for path in ["/api/v1/configmaps?resourceVersion=0", "/api/v1/namespaces", "/version"] {
        assert_eq!(world.call("GET", path, &none()).await.code, 500, "{path}");
    }
    let early = tokio::spawn({
        let world = world.clone();
        async move { world.call("GET", "/api/v1/configmaps?resourceVersion=0", &none()).await.code }
    });
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    store.caught_up.send_replace(true);
    assert_eq!(early.await.expect("the request ran"), 200, "who waits goes on");
    let ready = world.call("GET", "/readyz", &none()).await;
    assert_eq!((ready.code, ready.text().as_str(), began.elapsed()), (200, "ok", Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_lost_quorum_shows_in_readiness_and_not_in_liveness() {
    let store = Counting::new(true);
    let world = Builder::default().store(store.clone()).start().await;
    store.caught_up.send_replace(false);
    let ready = world.call("GET", "/readyz?verbose", &none()).await;
    assert!(ready.code == 500 && ready.text().contains("[-]etcd failed"), "{}", ready.text());
    assert_eq!(world.call("GET", "/livez", &none()).await.code, 200);
    let read = world.call("GET", "/api/v1/namespaces/default", &none()).await;
    assert_eq!(read.json()["reason"], "ServerTimeout", "no consistent read without a quorum");
}
