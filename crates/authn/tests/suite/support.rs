//! A small world of objects, and the keys of a test cluster.

use kybern_api::attributes::UserInfo;
use kybern_api::object::{Head, Object};
use kybern_api::seam::Lister;
use kybern_authn::pki::ClusterKeys;
use kybern_authn::{Assembly, Authenticator, Credentials, Outcome, TokenConfig};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Seconds since the epoch at which the test clusters are made.
pub const START: i64 = 1_800_000_000;

/// The instant `seconds` after [`START`].
pub fn at(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(START + seconds).expect("a time")
}

/// The user that was recognised.
pub fn known(outcome: Outcome) -> UserInfo {
    match outcome {
        Outcome::Known(user) => user,
        other => panic!("expected a user, got {other:?}"),
    }
}

/// Why the credentials were refused.
pub fn refusal(outcome: Outcome) -> String {
    match outcome {
        Outcome::Rejected(why) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Objects by resource, namespace and name.
#[derive(Default)]
pub struct World(Mutex<BTreeMap<(String, String, String), Object>>);

impl World {
    /// Adds an object of the core group, or replaces it.
    pub fn put(&self, resource: &str, namespace: &str, name: &str, uid: &str, deleting: Option<i64>, body: &str) {
        let head =
            Head { name: name.into(), namespace: namespace.into(), uid: uid.into(), deleting, ..Head::default() };
        let object = Object { head: Arc::new(head), revision: 1, bytes: body.to_owned().into() };
        self.0.lock().expect("lock").insert((resource.into(), namespace.into(), name.into()), object);
    }
    /// Removes an object.
    pub fn remove(&self, resource: &str, namespace: &str, name: &str) {
        self.0.lock().expect("lock").remove(&(resource.into(), namespace.into(), name.into()));
    }
}

impl Lister for World {
    fn get(&self, _group: &str, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        self.0.lock().expect("lock").get(&(resource.into(), namespace.into(), name.into())).cloned()
    }
    fn list(&self, _group: &str, _resource: &str, _namespace: Option<&str>) -> Vec<Object> {
        Vec::new()
    }
    fn changed_at(&self, _group: &str, _resource: &str) -> u64 {
        0
    }
}

/// A cluster's keys and authenticators.
pub struct Cluster {
    pub keys: ClusterKeys,
    pub assembly: Assembly,
    pub world: World,
}

impl Cluster {
    pub fn new() -> Self {
        let keys = ClusterKeys::create(at(0)).expect("keys");
        let assembly = Assembly::new(&keys, &TokenConfig::for_domain("cluster.local")).expect("assembly");
        Self { keys, assembly, world: World::default() }
    }
    /// The verdict on a certificate chain `seconds` after the start.
    pub fn certificate(&self, pem: &str, seconds: i64) -> Outcome {
        let chain: Vec<Vec<u8>> =
            kybern_authn::pki::certificates(pem).expect("PEM").iter().map(|der| der.to_vec()).collect();
        self.chain(&chain, seconds)
    }
    /// The verdict on a DER chain.
    pub fn chain(&self, chain: &[Vec<u8>], seconds: i64) -> Outcome {
        let credentials = Credentials { chain, now: START + seconds, path: "/api/v1/pods", ..Credentials::default() };
        self.assembly.authenticator.authenticate(&credentials, &self.world)
    }
    /// The verdict on a bearer token.
    pub fn bearer(&self, token: &str, seconds: i64) -> Outcome {
        let credentials =
            Credentials { bearer: Some(token), now: START + seconds, path: "/healthz", ..Credentials::default() };
        self.assembly.authenticator.authenticate(&credentials, &self.world)
    }
}
