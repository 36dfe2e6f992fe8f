//! The leader's part: it takes the steps that `plan` says, one after the other.

use super::board::{self, Kind, Request, opened, secret_target};
use super::follow::{AGAIN, Sight, note, tell};
use super::keeper::Keeper;
use super::plan::{Seen, Step, follows, next};
use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kybern_api::certificates::TAKEN;
use kybern_api::seam::Clock;
use kybern_authn::pki::ClusterKeys;
use kybern_client::informer::Informer;
use kybern_client::store::Delta;
use kybern_client::transport::{Resource, Selection, Target, Transport, Write};
use kybern_raftstore::MemberInfo;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a step lasts at least when nobody said.
const PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// Where there is nothing to do, the clock is looked at again after this time: it may have been set.
const DAY: Duration = Duration::from_secs(86_400);

/// Takes the steps while this server leads.
pub(in crate::roles) struct Leader {
    pub(in crate::roles) keeper: Arc<Keeper>,
    /// The server itself.
    pub(in crate::roles) api: Arc<dyn Transport>,
    pub(in crate::roles) members: watch::Receiver<Arc<Vec<MemberInfo>>>,
    pub(in crate::roles) clock: Arc<dyn Clock>,
    /// Fences every write.
    pub(in crate::roles) term: u64,
}

/// The nodes, followed only while somebody waits for them: there may be thousands.
struct Nodes {
    informer: Arc<Informer>,
    changes: mpsc::UnboundedReceiver<Delta>,
    _following: DropGuard,
}

impl Nodes {
    async fn follow(api: &Arc<dyn Transport>) -> Self {
        let (cancel, nodes) = (CancellationToken::new(), Resource::new("", "v1", "nodes"));
        let informer = Informer::start(api.clone(), nodes, Selection::default(), None, cancel.clone());
        let changes = informer.subscribe();
        informer.synced().await;
        Self { informer, changes, _following: cancel.drop_guard() }
    }

    /// Names, and the step that each has taken. One that cannot be read has taken none.
    fn taken(&self) -> Vec<(String, u64)> {
        let taken = |node: Node| node.metadata.annotations.as_ref().and_then(|a| a.get(TAKEN)?.parse().ok());
        let of = |o: &kybern_api::object::Object| o.view::<Node>().ok().and_then(taken).unwrap_or_default();
        self.informer.list().iter().map(|i| (i.object.head.name.to_string(), of(&i.object))).collect()
    }
}

impl Leader {
    /// Leads until `cancel`.
    pub(in crate::roles) async fn run(mut self, cancel: CancellationToken) {
        let sight = Sight::open(&self.api, &cancel);
        let (mut map, mut secret) = (sight.map.subscribe(), sight.secret.subscribe());
        if cancel.run_until_cancelled(sight.synced()).await.is_none() {
            return;
        }
        let (mut taken, mut nodes) = (self.keeper.taken(), None);
        loop {
            // Whatever changes from here on is looked at in the next turn.
            taken.mark_unchanged();
            let turn = cancel.run_until_cancelled(self.turn(&sight, &mut nodes)).await;
            let wait = match turn {
                None => return,
                Some(Ok(wait)) => wait,
                Some(Err(error)) => {
                    note("a step of the cluster's certificates failed", &error);
                    AGAIN
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(_) = map.recv() => {}
                Some(_) = secret.recv() => {}
                Some(()) = changed(&mut nodes) => {}
                Ok(()) = taken.changed() => {}
                Ok(()) = self.members.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks and takes one step; how long to wait where nothing changes.
    async fn turn(&mut self, sight: &Sight, nodes: &mut Option<Nodes>) -> Result<Duration> {
        let (keys, now) = (self.keeper.keys(), self.clock.now());
        let written = sight.keys();
        if let Some(written) = &written
            && opened(&written.object, &keys.sealing)?.rotation.generation > keys.rotation.generation
        {
            // Written by this leader or the one before, and not yet taken by this very server.
            return Ok(AGAIN);
        }
        let board = sight.board();
        let servers = self.servers();
        let looked = nodes.as_ref().map(Nodes::taken);
        let seen = Seen { now, keys: &keys, board: &board, servers: &servers, nodes: looked.as_deref() };
        let step = next(&seen);
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default().min(DAY);
        let status = |text: String| (text != board.status).then(|| board::status(&text));
        let (told, wait) = match &step {
            Step::Rest(due) => {
                *nodes = None;
                return Ok(until(*due));
            }
            Step::Look => {
                *nodes = Some(Nodes::follow(&self.api).await);
                return Ok(Duration::ZERO);
            }
            Step::Wait(why) => (status(why.clone()), DAY),
            Step::Pause(due) => (status(format!("the next step comes at {due}")), until(*due)),
            Step::Ask => (Some(board::requested(&by_age(&keys))), AGAIN),
            Step::Publish => (Some(board::published(&keys, now)), AGAIN),
            Step::Finish => (Some(board::done(&board.request)), AGAIN),
            Step::Begin(_) | Step::Switch | Step::Drop => {
                let Some(set) = follows(&step, &keys, now)? else { return Ok(AGAIN) };
                tracing::info!(?step, generation = set.rotation.generation, "the next set of keys");
                self.write(&set, written.map(|w| w.object.revision)).await?;
                return Ok(AGAIN);
            }
        };
        if let Some(data) = told {
            tell(&*self.api, data, self.term).await?;
        }
        Ok(wait)
    }

    /// Writes a set where nobody else has written meanwhile.
    async fn write(&self, set: &ClusterKeys, revision: Option<u64>) -> Result<()> {
        let body = board::sealed(set, revision)?.to_string().into();
        let secret = Target { term: self.term, ..secret_target() };
        match revision {
            Some(_) => self.api.write(&secret, Write::Update(body)).await?,
            None => self.api.write(&Target { name: String::new(), ..secret }, Write::Create(body)).await?,
        };
        Ok(())
    }

    fn servers(&mut self) -> Vec<String> {
        let members = self.members.borrow_and_update();
        members.iter().map(|m| m.member.meta.get("name").cloned().unwrap_or_default()).collect()
    }
}

/// The request that grown-old CAs make.
fn by_age(keys: &ClusterKeys) -> Request {
    Request { kind: Kind::Authorities, id: format!("age-{}", keys.renew_at().as_second()), pause: PAUSE }
}

async fn changed(nodes: &mut Option<Nodes>) -> Option<()> {
    match nodes {
        Some(nodes) => nodes.changes.recv().await.map(drop),
        None => std::future::pending().await,
    }
}
