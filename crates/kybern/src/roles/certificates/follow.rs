//! A server's part: it takes every set of keys that the leader writes into use, and says so.

use super::board::{self, Board, map_target, opened, secret_target, selection};
use super::keeper::Keeper;
use anyhow::{Context, Result};
use kybern_api::error::{Reason, Status};
use kybern_client::informer::Informer;
use kybern_client::store::Name;
use kybern_client::transport::{MERGE_PATCH, Target, Transport, Write};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What failed is tried again after this time.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// The ConfigMap and the Secret as this server sees them.
pub(super) struct Sight {
    pub(super) map: Arc<Informer>,
    pub(super) secret: Arc<Informer>,
}

impl Sight {
    /// Follows both until `cancel`.
    pub(super) fn open(api: &Arc<dyn Transport>, cancel: &CancellationToken) -> Self {
        let follow =
            |of: Target| Informer::start(api.clone(), of.resource.clone(), selection(&of), None, cancel.clone());
        Self { map: follow(map_target()), secret: follow(secret_target()) }
    }

    /// Waits until both are known.
    pub(super) async fn synced(&self) {
        tokio::join!(self.map.synced(), self.secret.synced());
    }

    pub(super) fn board(&self) -> Board {
        self.map.get(&name(&map_target())).map(|i| Board::read(&i.object)).unwrap_or_default()
    }

    pub(super) fn keys(&self) -> Option<kybern_client::store::Item> {
        self.secret.get(&name(&secret_target()))
    }
}

fn name(of: &Target) -> Name {
    Name::new(of.namespace.as_str(), of.name.as_str())
}

/// Writes into the ConfigMap, which the first to have something to say makes.
///
/// # Errors
/// The refusal.
pub(super) async fn tell(api: &dyn Transport, data: Value, term: u64) -> Result<(), Status> {
    let map = Target { term, ..map_target() };
    let patch = json!({ "data": data }).to_string();
    let patch = || api.write(&map, Write::Patch(MERGE_PATCH, patch.clone().into()));
    match patch().await {
        Err(s) if s.reason == Reason::NotFound => {}
        said => return said.map(drop),
    }
    let made = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": map.name }, "data": data });
    let all = Target { name: String::new(), ..map.clone() };
    match api.write(&all, Write::Create(made.to_string().into())).await {
        // Another server was first.
        Err(s) if s.reason == Reason::AlreadyExists => patch().await.map(drop),
        said => said.map(drop),
    }
}

/// A failed step in the log. The namespace of all this is made in the first moment of a cluster, and missed
/// until then.
pub(super) fn note(what: &str, error: &anyhow::Error) {
    if error.downcast_ref::<Status>().is_some_and(|s| s.reason == Reason::NotFound) {
        tracing::debug!(error = format!("{error:#}"), "{what}");
    } else {
        tracing::warn!(error = format!("{error:#}"), "{what}");
    }
}

/// Follows the leader's sets.
pub(in crate::roles) struct Follower {
    /// What takes them into use.
    pub(in crate::roles) keeper: Arc<Keeper>,
    /// The server itself.
    pub(in crate::roles) api: Arc<dyn Transport>,
}

impl Follower {
    /// Follows until `cancel`.
    pub(in crate::roles) async fn run(self, cancel: CancellationToken) {
        let sight = Sight::open(&self.api, &cancel);
        let (mut map, mut secret) = (sight.map.subscribe(), sight.secret.subscribe());
        if cancel.run_until_cancelled(sight.synced()).await.is_none() {
            return;
        }
        loop {
            let stepped = cancel.run_until_cancelled(self.step(&sight)).await;
            let again = match stepped {
                None => return,
                Some(Ok(())) => false,
                Some(Err(error)) => {
                    note("this server does not follow the cluster's keys yet", &error);
                    true
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(_) = map.recv() => {}
                Some(_) = secret.recv() => {}
                () = tokio::time::sleep(AGAIN), if again => {}
            }
        }
    }

    async fn step(&self, sight: &Sight) -> Result<()> {
        if let Some(written) = sight.keys() {
            let present = self.keeper.keys();
            let keys = opened(&written.object, &present.sealing).context("the set of keys can't be opened")?;
            // An older set is a replay, or this server was told by its disk already.
            if keys.rotation.generation > present.rotation.generation {
                self.keeper.take(keys)?;
            }
        }
        let (name, generation) = (self.keeper.name(), self.keeper.keys().rotation.generation);
        if sight.board().servers.get(name) != Some(&generation) {
            tell(&*self.api, board::taken(name, generation), 0).await?;
        }
        Ok(())
    }
}
