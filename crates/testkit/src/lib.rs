//! An API server on the memory store, in one process, for tests of whatever talks to one.
//!
//! Entry points: [`World::start`] (a server, a client that may do everything), [`World::http`] (one HTTP
//! request through the whole corridor), [`objects`] (builders). Never used outside tests.

pub mod identity;
pub mod objects;

/// The authorisers, for suites that judge by real roles.
pub use kybern_rbac as rbac;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use identity::{AllowAll, ByHeader};
use kybern_admission::{Chain, Switches};
use kybern_api::attributes::UserInfo;
use kybern_api::kinds;
use kybern_api::seam::{Clock, FixedClock, SystemIds};
use kybern_apiserver::audit::Audit;
use kybern_apiserver::{ApiServer, Config, Parts, PlainSealer, Sealer};
use kybern_authn::Authenticator;
use kybern_authn::issuer::Issuer;
use kybern_client::transport::Transport;
use kybern_raftstore::memory::MemoryStore;
use kybern_raftstore::store::Store;
use kybern_rbac::Authorizer;
use serde_json::Value;
use std::sync::Arc;

/// What a test's world is made of.
pub struct Builder {
    authenticator: Arc<dyn Authenticator>,
    authorizer: Arc<dyn Authorizer>,
    disabled: Vec<String>,
    sealer: Arc<dyn Sealer>,
    store: Option<Arc<dyn Store>>,
    issuer: Option<Arc<Issuer>>,
    bootstrap: bool,
    config: Config,
    audit: Option<Audit>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("disabled", &self.disabled).finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            authenticator: Arc::new(ByHeader),
            authorizer: Arc::new(AllowAll),
            // Pods in tests need no service account of their own.
            disabled: vec!["ServiceAccount".to_owned()],
            sealer: Arc::new(PlainSealer),
            store: None,
            issuer: None,
            bootstrap: true,
            config: Config::new(([192, 0, 2, 1], 6443).into()),
            audit: None,
        }
    }
}

impl Builder {
    /// Judges requests with `authorizer` instead of allowing everything.
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = authorizer;
        self
    }
    /// Finds out who asks with `authenticator` instead of taking the bearer token as a user's name.
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = authenticator;
        self
    }
    /// Encrypts sealed kinds with `sealer`.
    pub fn sealer(mut self, sealer: Arc<dyn Sealer>) -> Self {
        self.sealer = sealer;
        self
    }
    /// Serves what is in `store`: a second server of the same cluster.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }
    /// Mints service-account tokens.
    pub fn issuer(mut self, issuer: Arc<Issuer>) -> Self {
        self.issuer = Some(issuer);
        self
    }
    /// Turns off admission plugins, by name; nothing else is off then.
    pub fn without_plugins(mut self, names: &[&str]) -> Self {
        self.disabled = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }
    /// Changes the server's limits.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }
    /// Writes down who did what.
    pub fn audit(mut self, audit: Audit) -> Self {
        self.audit = Some(audit);
        self
    }
    /// Leaves out the system's own namespaces and classes.
    pub fn empty(mut self) -> Self {
        self.bootstrap = false;
        self
    }
    /// Starts the world.
    ///
    /// # Panics
    /// When the parts do not fit, which fails the test.
    pub async fn start(self) -> World {
        let clock = Arc::new(FixedClock::new(START.parse().expect("a timestamp")));
        let store = self.store.unwrap_or_else(MemoryStore::new);
        let switches = Switches { disable: self.disabled, ..Switches::default() };
        let server = ApiServer::new(Parts {
            config: self.config,
            store: store.clone(),
            clock: clock.clone(),
            ids: Arc::new(SystemIds),
            authenticator: self.authenticator,
            authorizer: self.authorizer,
            admission: Arc::new(Chain::new(&switches).expect("known plugins")),
            issuer: self.issuer,
            sealer: self.sealer,
            kinds: kinds::table().iter().cloned().chain(kinds::metrics::rows()).map(Arc::new).collect(),
            paths: Vec::new(),
            audit: self.audit,
            metrics: prometheus_client::registry::Registry::default(),
        });
        let world = World { server, store, clock };
        if self.bootstrap {
            world.server.bootstrap().await.expect("the system's own objects");
        }
        world
    }
}

/// When a world begins.
pub const START: &str = "2026-01-02T03:04:05Z";

/// A running API server and what it stands on.
#[derive(Clone)]
pub struct World {
    /// The server.
    pub server: ApiServer,
    /// Its store.
    pub store: Arc<dyn Store>,
    /// Its clock, which stands still until it is moved.
    pub clock: Arc<FixedClock>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.clock.now()).finish_non_exhaustive()
    }
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// Headers.
    pub headers: http::HeaderMap,
    /// Body.
    pub bytes: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl World {
    /// A world with the defaults.
    pub async fn start() -> Self {
        Builder::default().start().await
    }

    /// A client that may do everything.
    pub fn admin(&self) -> Arc<dyn Transport> {
        self.client(UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() })
    }

    /// A client with an identity of its own.
    pub fn client(&self, user: UserInfo) -> Arc<dyn Transport> {
        Arc::new(self.server.transport(user, "testkit"))
    }

    /// One HTTP request through the whole corridor, without a socket.
    pub async fn http(&self, request: http::Request<Bytes>) -> Answer {
        let response = self.server.handle(request.map(Full::new)).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    /// One HTTP request as the administrator, with a JSON body (null: none).
    ///
    /// # Panics
    /// When method or path are malformed, which fails the test.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call_as("admin", method, path, body).await
    }

    /// The same with another bearer token.
    ///
    /// # Panics
    /// When token, method or path are malformed, which fails the test.
    pub async fn call_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let bytes = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", media)
            .body(bytes);
        self.http(request.expect("a request")).await
    }
}
