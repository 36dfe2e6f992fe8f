//! Network policies for the nodes: a node learns the policies that hold for its own pods and the
//! addresses that those speak of, and nothing else about pods, namespaces and policies.
//!
//! One [`World`] per server follows the three kinds; each node's stream is told when its view may have
//! changed, and sends what is different then.

mod spec;
mod view;
mod world;

use crate::server::ApiServer;
use kybern_api::object::Object;
use kybern_api::seam::Lister;
use kybern_client::informer::Informer;
use kybern_client::store::Delta;
use kybern_client::transport::{Resource, Selection, Transport};
use kybern_wire::node::PolicyUpdate;
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, mpsc, watch};
use view::View;
use world::World;

/// Updates that wait for the transport; a slow node's later ones are merged.
const QUEUE: usize = 1;
const GROUP: &str = "networking.k8s.io";

/// The world of policies, followed from the first node on.
#[derive(Debug, Default)]
pub(crate) struct Policies(OnceLock<Arc<Hub>>);

#[derive(Debug)]
struct Hub {
    world: Mutex<World>,
    /// Whom to tell about a node.
    streams: Mutex<HashMap<SmolStr, Vec<Arc<Notify>>>>,
    ready: watch::Sender<bool>,
}

impl Policies {
    /// The updates of one node's view, and the task that makes them until the receiver is dropped.
    pub(crate) fn follow(
        &self,
        server: &ApiServer,
        node: &str,
    ) -> (mpsc::Receiver<PolicyUpdate>, impl Future<Output = ()> + Send + use<>) {
        let hub = self.0.get_or_init(|| Hub::start(server)).clone();
        let (out, updates) = mpsc::channel(QUEUE);
        (updates, hub.stream(node.into(), out))
    }
}

impl Hub {
    fn start(server: &ApiServer) -> Arc<Self> {
        let hub =
            Arc::new(Self { world: Mutex::default(), streams: Mutex::default(), ready: watch::Sender::new(false) });
        let transport: Arc<dyn Transport> = Arc::new(server.own_transport());
        let informers = [("", "pods"), ("", "namespaces"), (GROUP, "networkpolicies")].map(|(group, plural)| {
            let resource = Resource::new(group, "v1", plural);
            Informer::start(transport.clone(), resource, Selection::default(), None, server.0.stop.clone())
        });
        let (task, stop) = (hub.clone().run(informers, server.lister()), server.0.stop.clone());
        server.0.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
        hub
    }

    async fn run(self: Arc<Self>, informers: [Arc<Informer>; 3], lister: Arc<dyn Lister>) {
        for informer in &informers {
            informer.synced().await;
        }
        let [mut pods, mut namespaces, mut policies] = informers.map(|i| i.subscribe());
        // Policies come before the pods that they are to hold for.
        while let Ok(delta) = namespaces.try_recv() {
            self.namespace(&delta);
        }
        while let Ok(delta) = policies.try_recv() {
            self.policy(&delta);
        }
        while let Ok(delta) = pods.try_recv() {
            self.pod(&delta, lister.as_ref());
        }
        for policy in lister.list(GROUP, "networkpolicies", None) {
            self.take_policy(&policy, false);
        }
        self.ready.send_replace(true);
        loop {
            tokio::select! {
                Some(delta) = namespaces.recv() => self.namespace(&delta),
                Some(delta) = policies.recv() => self.policy(&delta),
                Some(delta) = pods.recv() => self.pod(&delta, lister.as_ref()),
                else => return,
            }
        }
    }

    fn namespace(&self, delta: &Delta) {
        let Some(item) = delta.latest() else { return };
        let nodes = self.world.lock().namespace(&item.object, delta.new.is_none());
        self.tell(&nodes);
    }

    fn policy(&self, delta: &Delta) {
        if let Some(item) = delta.latest() {
            self.take_policy(&item.object, delta.new.is_none());
        }
    }

    fn take_policy(&self, object: &Object, gone: bool) {
        let (nodes, read) = self.world.lock().policy(object, gone);
        if let Err(e) = read {
            tracing::error!(policy = %object.head.key(), "cannot be understood, its namespace is closed: {e}");
        }
        self.tell(&nodes);
    }

    /// A new pod is first shown with every policy that was there before it, although the policies come by
    /// another watch.
    fn pod(&self, delta: &Delta, lister: &dyn Lister) {
        let Some(item) = delta.latest() else { return };
        if delta.old.is_none() && *self.ready.borrow() {
            for policy in lister.list(GROUP, "networkpolicies", Some(&item.object.head.namespace)) {
                self.take_policy(&policy, false);
            }
        }
        let (nodes, read) = self.world.lock().pod(&item.object, delta.new.is_none());
        if let Err(e) = read {
            tracing::error!(pod = %item.object.head.key(), "cannot be read, it stays without network: {e}");
        }
        self.tell(&nodes);
    }

    fn tell(&self, nodes: &world::Nodes) {
        let streams = self.streams.lock();
        nodes.iter().filter_map(|n| streams.get(n)).flatten().for_each(|s| s.notify_one());
    }

    async fn stream(self: Arc<Self>, node: SmolStr, out: mpsc::Sender<PolicyUpdate>) {
        let told = Arc::new(Notify::new());
        self.streams.lock().entry(node.clone()).or_default().push(told.clone());
        let _leave = Leave { hub: self.clone(), node: node.clone(), told: told.clone() };
        // The sender lives in self.
        self.ready.subscribe().wait_for(|ready| *ready).await.ok();
        let mut sent: Option<View> = None;
        loop {
            let view = self.world.lock().view(&node);
            let update = match &sent {
                Some(old) => view.since(old),
                None => {
                    Some(view.since(&View::default()).unwrap_or_default()).map(|u| PolicyUpdate { whole: true, ..u })
                }
            };
            if let Some(update) = update
                && out.send(update).await.is_err()
            {
                return;
            }
            sent = Some(view);
            tokio::select! {
                () = told.notified() => {}
                () = out.closed() => return,
            }
        }
    }
}

/// Takes a stream off the list when it ends.
struct Leave {
    hub: Arc<Hub>,
    node: SmolStr,
    told: Arc<Notify>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut streams = self.hub.streams.lock();
        if let Some(all) = streams.get_mut(&self.node) {
            all.retain(|s| !Arc::ptr_eq(s, &self.told));
            if all.is_empty() {
                streams.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests;
