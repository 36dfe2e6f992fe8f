//! The node's Ingress proxy, and the account it reads as.
//!
//! The proxy is not the node: it reads Ingresses as `kube-system/ingress`, with tokens that the node asks
//! for and that die with it. Its certificates are Secrets that the node may read itself.

use crate::error::{Error, Result};
use crate::feed::{Feed, FeedConfig, tls_connect};
use crate::node::trust::Trust;
use crate::volumes::token::Token;
use kybern_api::ingress::{ACCOUNT, NAMESPACE, SWITCH};
use kybern_api::seam::Clock;
use kybern_client::informer::Informer;
use kybern_client::set::InformerSet;
use kybern_client::store::Name;
use kybern_client::transport::Resource;
use kybern_client::write::{At, Writer};
use kybern_ingress::{Ingress, Metrics, Sources};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A token that was refused is asked for again after the first, later the second of these.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Life of a token, in seconds.
const LIFE: i64 = 3600;

/// What the proxy of a node needs.
pub(crate) struct IngressNode {
    /// The node's name.
    pub(crate) node: String,
    /// Where the proxy listens.
    pub(crate) config: kybern_ingress::Config,
    /// Whom the node believes.
    pub(crate) trust: Arc<Trust>,
    /// Where the proxy's feed keeps the servers it knows.
    pub(crate) known: PathBuf,
    /// The node's own feed.
    pub(crate) feed: Feed,
    /// What the node follows already.
    pub(crate) informers: InformerSet,
    /// Writes as the node.
    pub(crate) writer: Writer,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where the proxy counts.
    pub(crate) metrics: Arc<Metrics>,
}

impl IngressNode {
    /// Serves until `cancel`.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        match cancel.run_until_cancelled(self.account()).await {
            Some(Ok((own, first))) => self.serve(own, first, cancel).await,
            Some(Err(e)) => tracing::error!(error = %e, "Ingress is not served"),
            None => {}
        }
    }

    async fn serve(self, own: Feed, first: Token, cancel: CancellationToken) {
        let all = |group, version, plural| self.informers.all(&Resource::new(group, version, plural));
        let ingress = Ingress {
            node: self.node.clone(),
            config: self.config,
            sources: Sources {
                own: Arc::new(own.clone()),
                node: Arc::new(self.feed.clone()),
                nodes: self.nodes(),
                services: all("", "v1", "services"),
                slices: all("discovery.k8s.io", "v1", "endpointslices"),
            },
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            metrics: self.metrics.clone(),
        };
        let renewing = async { cancel.run_until_cancelled(self.renew(&own, first)).await };
        let (served, _, ()) = tokio::join!(ingress.run(cancel.clone()), renewing, own.run(cancel.clone()));
        if let Err(e) = served {
            tracing::error!(error = %e, "Ingress is not served");
        }
    }

    fn nodes(&self) -> Arc<Informer> {
        self.informers.all(&Resource::new("", "v1", "nodes"))
    }

    /// A feed of the account's own, with its first token. Waits while this node is not to serve Ingress.
    async fn account(&self) -> Result<(Feed, Token)> {
        let own = Name::new("", self.node.as_str());
        self.nodes().until(|nodes| nodes.get(&own).is_some_and(|n| n.object.head.label(SWITCH) != Some("false"))).await;
        let token = self.patiently().await;
        let trust = self.trust.clone();
        let servers = self.feed.servers().borrow().clone();
        let config = FeedConfig {
            servers,
            known: self.known.clone(),
            connect: tls_connect(move || trust.plain()),
            bearer: Some(token.text.clone()),
        };
        Ok((Feed::new(config)?, token))
    }

    /// A token, however long it takes: a cluster without Ingress has no such account.
    async fn patiently(&self) -> Token {
        let mut wait = PATIENCE.0;
        loop {
            match self.token().await {
                Ok(token) => return token,
                Err(e) => tracing::debug!(error = %e, "no token for the Ingress proxy"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(PATIENCE.1);
        }
    }

    async fn renew(&self, own: &Feed, mut token: Token) {
        loop {
            let left = token.refresh.duration_since(self.clock.now());
            tokio::time::sleep(Duration::try_from(left).unwrap_or_default().max(PATIENCE.0)).await;
            token = self.patiently().await;
            if let Err(e) = own.set_bearer(&token.text) {
                tracing::error!(error = %e, "the Ingress proxy keeps its old token");
            }
        }
    }

    async fn token(&self) -> Result<Token> {
        let own = self.nodes().get(&Name::new("", self.node.as_str()));
        let uid = own.map(|n| n.object.head.uid.to_string());
        let uid = uid.ok_or_else(|| Error::Pod("this node is not registered".into()))?;
        let body = json!({
            "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
            "spec": {
                "expirationSeconds": LIFE,
                "boundObjectRef": { "kind": "Node", "apiVersion": "v1", "name": self.node, "uid": uid },
            },
        });
        let accounts = Resource::new("", "v1", "serviceaccounts");
        let at = At { resource: &accounts, namespace: NAMESPACE, name: ACCOUNT, subresource: "token" };
        Token::of(&self.writer.create(at, &body).await?, self.clock.now())
    }
}
