//! The node's part when the cluster replaces its CAs or asks for new certificates: it believes the CAs that
//! are published, renews its own certificate where it is too old, and then says on its Node that it has.

use super::certificate::Order;
use super::trust::Trust;
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kybern_api::certificates::{CA, CONFIG_MAP, GENERATION, LEAVES, NAMESPACE, TAKEN};
use kybern_api::object::Object;
use kybern_client::informer::Informer;
use kybern_client::transport::{MERGE_PATCH, Resource, Selection};
use kybern_client::write::{At, Writer};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A step that failed is tried again after this time.
const AGAIN: Duration = Duration::from_secs(3);

/// What the node's part needs.
pub struct Rotation {
    /// The node's name.
    pub node: String,
    /// Writes as the node.
    pub writer: Writer,
    /// Whom the node believes.
    pub trust: Arc<Trust>,
    /// Orders renewals of its certificate.
    pub renew: mpsc::Sender<Order>,
}

/// What is published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wish {
    ca: String,
    generation: u64,
    leaves: u64,
}

impl Wish {
    /// None: nothing has been published yet.
    fn read(object: &Object) -> Option<Self> {
        let mut data = object.view::<ConfigMap>().ok()?.data?;
        let count = |key: &str| data.get(key)?.parse().ok();
        let (generation, leaves) = (count(GENERATION)?, count(LEAVES)?);
        Some(Self { ca: data.remove(CA)?, generation, leaves })
    }
}

impl Rotation {
    /// Follows what is published until `cancel`.
    pub async fn follow(self, cancel: CancellationToken) {
        let maps = Resource::new("", "v1", "configmaps");
        let selection = Selection {
            namespace: NAMESPACE.into(),
            fields: format!("metadata.name={CONFIG_MAP}"),
            ..Selection::default()
        };
        let informer = Informer::start(self.writer.transport().clone(), maps, selection, None, cancel.clone());
        let mut changes = informer.subscribe();
        let mut open = None;
        loop {
            let wish = tokio::select! {
                () = cancel.cancelled() => return,
                change = changes.recv() => match change {
                    Some(change) => change.new.and_then(|item| Wish::read(&item.object)),
                    None => return,
                },
                () = tokio::time::sleep(AGAIN), if open.is_some() => open.take(),
            };
            let Some(wish) = wish else { continue };
            open = match cancel.run_until_cancelled(self.fulfil(&wish)).await {
                None => return,
                Some(Ok(())) => None,
                Some(Err(error)) => {
                    tracing::warn!(%error, generation = wish.generation, "a step of the cluster's certificates is not taken yet");
                    Some(wish)
                }
            };
        }
    }

    async fn fulfil(&self, wish: &Wish) -> Result<()> {
        self.trust.believe(&wish.ca)?;
        if wish.generation == 0 {
            return Ok(());
        }
        let taken = self.taken().await?;
        if wish.leaves > taken {
            let (order, done) = oneshot::channel();
            let lost = || Error::Certificate("the node's certificate was not renewed".into());
            self.renew.send(order).await.map_err(|_| lost())?;
            done.await.map_err(|_| lost())?;
        }
        if wish.generation > taken {
            let patch = json!({ "metadata": { "annotations": { TAKEN: wish.generation.to_string() } } });
            self.writer.patch(self.own(&nodes()), MERGE_PATCH, &patch).await?;
            tracing::info!(generation = wish.generation, "took a step of the cluster's certificates");
        }
        Ok(())
    }

    /// The step that the node has taken.
    async fn taken(&self) -> Result<u64> {
        let node = self.writer.transport().get(&nodes(), "", &self.node).await?;
        let node: Node = node.view().map_err(|source| Error::Decode { what: "the node", source })?;
        let said = node.metadata.annotations.as_ref().and_then(|a| a.get(TAKEN)?.parse().ok());
        Ok(said.unwrap_or_default())
    }

    fn own<'a>(&'a self, nodes: &'a Resource) -> At<'a> {
        At { resource: nodes, namespace: "", name: &self.node, subresource: "" }
    }
}

fn nodes() -> Resource {
    Resource::new("", "v1", "nodes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_client::memory::MemoryApi;
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::Value;
    use std::collections::BTreeMap;

    fn ca() -> String {
        let key = KeyPair::generate().expect("key");
        CertificateParams::new(Vec::new()).expect("params").self_signed(&key).expect("signed").pem()
    }

    /// A node that follows, what it is told, and the orders that it gives.
    struct Place {
        api: Arc<MemoryApi>,
        writer: Writer,
        orders: mpsc::Receiver<Order>,
        trust: Arc<Trust>,
        _dir: tempfile::TempDir,
        _following: tokio_util::sync::DropGuard,
    }

    impl Place {
        async fn start(ca: &str) -> Self {
            let (api, dir) = (Arc::new(MemoryApi::default()), tempfile::tempdir().expect("dir"));
            let writer = Writer::new(api.clone(), "test", 0);
            let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" } });
            let all = nodes();
            writer
                .create(At { resource: &all, namespace: "", name: "", subresource: "" }, &node)
                .await
                .expect("a node");
            let trust = Trust::new(ca, &dir.path().join("ca"), None).expect("trust");
            let ((renew, orders), cancel) = (mpsc::channel(1), CancellationToken::new());
            let rotation = Rotation { node: "n1".into(), writer: writer.clone(), trust: trust.clone(), renew };
            tokio::spawn(rotation.follow(cancel.clone()));
            Self { api, writer, orders, trust, _dir: dir, _following: cancel.drop_guard() }
        }

        async fn publish(&self, ca: &str, generation: u64, leaves: u64) {
            let data = BTreeMap::from([
                (CA, ca.to_owned()),
                (GENERATION, generation.to_string()),
                (LEAVES, leaves.to_string()),
            ]);
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": data,
                "metadata": { "name": CONFIG_MAP, "namespace": NAMESPACE },
            });
            let maps = Resource::new("", "v1", "configmaps");
            let at = |name| At { resource: &maps, namespace: NAMESPACE, name, subresource: "" };
            if self.api.tree(&maps, NAMESPACE, CONFIG_MAP).is_none() {
                self.writer.create(at(""), &map).await.expect("published");
            } else {
                self.writer.patch(at(CONFIG_MAP), MERGE_PATCH, &map).await.expect("published");
            }
        }

        /// What the node says after a while.
        async fn said(&self) -> Value {
            tokio::time::sleep(AGAIN * 2).await;
            self.api.tree(&nodes(), "", "n1").expect("the node")["metadata"]["annotations"][TAKEN].clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_believes_renews_and_only_then_says_so() {
        let (old, new) = (ca(), ca());
        let mut place = Place::start(&old).await;
        place.publish(&old, 0, 0).await;
        assert_eq!(place.said().await, Value::Null, "nothing has happened yet");
        let before = place.trust.tls();
        place.publish(&format!("{old}{new}"), 1, 0).await;
        assert_eq!(place.said().await, "1");
        assert!(!Arc::ptr_eq(&before, &place.trust.tls()), "it believes both");
        place.publish(&format!("{old}{new}"), 2, 2).await;
        let order = place.orders.recv().await.expect("an order");
        assert_eq!(place.said().await, "1", "not before the new certificate is in use");
        drop(order);
        let order = place.orders.recv().await.expect("the order again: the first one failed");
        order.send(()).expect("somebody waits");
        assert_eq!(place.said().await, "2");
        place.publish(&new, 3, 2).await;
        assert_eq!(place.said().await, "3");
        assert!(place.orders.try_recv().is_err(), "its certificate is new enough");
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_cas_are_not_believed_and_no_step_is_taken() {
        let (own, stranger) = (ca(), ca());
        let place = Place::start(&own).await;
        let before = place.trust.tls();
        place.publish(&stranger, 1, 0).await;
        assert_eq!(place.said().await, Value::Null);
        assert!(Arc::ptr_eq(&before, &place.trust.tls()));
        place.publish(&own, 2, 0).await;
        assert_eq!(place.said().await, "2", "and what is right again is taken");
    }
}
