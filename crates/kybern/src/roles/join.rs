//! How a server joins: it fetches the cluster's keys over a connection pinned to the CA hash of its token,
//! and learns where the members are. Both ends of that exchange.

use super::certificates::Keeper;
use crate::config::Server;
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kybern_api::attributes::UserInfo;
use kybern_api::error::Status;
use kybern_apiserver::PathHandler;
use kybern_authn::join::{JoinToken, SERVER_BUNDLE_PATH};
use kybern_authn::pki::ClusterKeys;
use kybern_client::http::Connector;
use kybern_raftstore::node::RaftStore;
use kybern_raftstore::store::Error as StoreError;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a server that joins waits for the one it was pointed at.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a token may be unknown before that is final.
const TOKEN_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries while that server does not answer yet.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// No bundle is larger, in bytes.
const MAX_BUNDLE: usize = 1 << 20;

/// What a joining server receives.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Admission {
    /// All keys ([`ClusterKeys::to_bundle`]).
    bundle: String,
    /// The cluster's id.
    pub(super) cluster: String,
    /// This server's member id.
    pub(super) member: u64,
    /// Peer addresses of the members.
    pub(super) peers: Vec<String>,
}

impl Admission {
    /// The keys, to be kept in the data directory.
    pub(super) fn keys(&self) -> Result<ClusterKeys> {
        Ok(ClusterKeys::from_bundle(&self.bundle)?)
    }
}

/// Asks the server at `url` to admit this one. Waits for it to come up; a refusal is final.
///
/// # Errors
/// One line that says which check failed.
pub(super) async fn ask(config: &Server, url: &str) -> Result<Admission> {
    let text = config.token.as_deref().context("a token is needed to join")?;
    let token: JoinToken = text.parse().context("--token can't be used")?;
    let tls = Arc::new(kybern_authn::tls::pinned_client(token.ca_hash)?);
    let client: Client<Connector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(Connector::new(tls));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let unknown_until = tokio::time::Instant::now() + TOKEN_PATIENCE;
    loop {
        let request = http::Request::post(format!("{}{SERVER_BUNDLE_PATH}", url.trim_end_matches('/')))
            .header("authorization", format!("Bearer {}", token.bearer()))
            .body(Full::default())?;
        let answer = match client.request(request).await {
            Ok(response) => {
                let code = response.status();
                let body =
                    Limited::new(response.into_body(), MAX_BUNDLE).collect().await.map_err(|e| anyhow!(e))?.to_bytes();
                match code.as_u16() {
                    200 => return serde_json::from_slice(&body).context("the server's answer can't be read"),
                    // The first server may be about to write the token and the roles down.
                    401 | 403 if tokio::time::Instant::now() < unknown_until => {
                        "the token is not known (yet)".to_owned()
                    }
                    401 => bail!(
                        "{url} does not know this token: it is wrong or has expired; make a new one with `kybern token create --role server`"
                    ),
                    403 => bail!(
                        "this token is for nodes, not for servers; make one with `kybern token create --role server`"
                    ),
                    _ => Status::from_json(code.as_u16(), &body).map_or_else(|| format!("HTTP {code}"), |s| s.message),
                }
            }
            Err(e) => {
                let text = format!("{:#}", anyhow!(e));
                if text.contains("pinned") || text.contains("certificate") {
                    bail!("{url} is not a server of the cluster that made this token ({text})");
                }
                text
            }
        };
        if tokio::time::Instant::now() > deadline {
            bail!("{url} did not admit this server within {} s: {answer}", PATIENCE.as_secs());
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// The other end: hands the keys to whoever may post here (the join role for servers, nobody else).
pub(super) struct Bundle {
    keeper: Arc<Keeper>,
    store: Weak<RaftStore>,
}

impl Bundle {
    pub(super) fn new(keeper: Arc<Keeper>, store: &Arc<RaftStore>) -> Self {
        Self { keeper, store: Arc::downgrade(store) }
    }
}

#[async_trait::async_trait]
impl PathHandler for Bundle {
    async fn post(&self, user: &UserInfo, _body: Bytes) -> Result<Bytes, Status> {
        let unavailable = |e: StoreError| Status::new(kybern_api::error::Reason::ServiceUnavailable, e.to_string());
        let store = self.store.upgrade().ok_or_else(|| unavailable(StoreError::Stopped))?;
        let member = store.allocate_id().await.map_err(unavailable)?;
        let admission = Admission {
            bundle: self.keeper.keys().to_bundle().map_err(|e| Status::internal(e.to_string()))?,
            cluster: store.cluster().to_owned(),
            member,
            peers: store.members().into_iter().map(|m| m.member.peer).collect(),
        };
        tracing::info!(user = %user.name, member, "a server joins");
        serde_json::to_vec(&admission).map(Bytes::from).map_err(|e| Status::internal(e.to_string()))
    }
}
