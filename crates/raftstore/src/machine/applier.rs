//! openraft's view of the state machine: runs entries through [`super::apply`], queues their rows for
//! the disk, shows the result to readers and watchers, and answers those who proposed.
//!
//! The rows of a round (values, events, applied id, membership) go to disk as one batch, unsynced: see
//! `disk`. A restart may therefore load a slightly older state and apply the rest from the log again;
//! a member serves reads only after it has (`node::RaftStore::recovered`).

use super::apply::{Commit, apply};
use super::load::Loaded;
use super::state::State;
use crate::batch::Ticket;
use crate::columns::{Applied, Family, encode, encode_events, encode_value, meta, state_key};
use crate::disk::{Disk, Row};
use crate::metrics::Metrics;
use crate::model::{Revision, TxnOutcome};
use crate::pending::Pending;
use crate::replica::Replica;
use crate::store::Error;
use crate::types::{Entry, LogId, Membership, SnapshotMeta, Types};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

/// A round of apply is shown to readers after so many transactions at the latest.
const ROUND: usize = 1_024;

/// Event rows that have left the window are deleted this many revisions at a time.
const TRIM_EVERY: Revision = 1_024;

/// Rows of an installed snapshot are written in batches of about this many bytes.
const INSTALL_BYTES: usize = 1 << 20;

pub(crate) type Snapshot = openraft::alias::SnapshotOf<Types, State>;

/// The state machine of one member.
pub(crate) struct Applier {
    disk: Arc<Disk>,
    replica: Arc<Replica>,
    pending: Arc<Pending>,
    /// Index of the last applied entry, for those who wait for it.
    index: watch::Sender<u64>,
    metrics: Metrics,
    state: State,
    applied: Applied,
    /// Event rows below this are deleted.
    trimmed: Revision,
}

/// What the entries of one round changed.
#[derive(Default)]
struct Round {
    commits: Vec<Commit>,
    outcomes: Vec<(Ticket, Result<TxnOutcome, Error>)>,
    responders: Vec<ApplyResponder<Types>>,
}

impl Applier {
    /// A state machine that goes on from what was loaded.
    pub(crate) fn new(
        disk: Arc<Disk>,
        replica: Arc<Replica>,
        pending: Arc<Pending>,
        metrics: Metrics,
        loaded: Loaded,
    ) -> Self {
        let index = watch::Sender::new(loaded.applied.last.map_or(0, |id| id.index));
        Self { disk, replica, pending, index, metrics, state: loaded.state, applied: loaded.applied, trimmed: 0 }
    }

    /// The index of the last applied entry, over time.
    pub(crate) fn index(&self) -> watch::Sender<u64> {
        self.index.clone()
    }

    fn run(&mut self, entry: Entry, round: &mut Round) -> io::Result<()> {
        let term = entry.log_id.leader_id.term;
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                self.applied.membership = Membership::new(Some(entry.log_id), membership);
            }
            EntryPayload::Normal(batch) => {
                let proposals = batch.decode().map_err(io::Error::other)?;
                for (ticket, txn) in proposals {
                    let (outcome, commit) = apply(&mut self.state, &txn, term);
                    round.commits.extend(commit);
                    if self.pending.is_ours(ticket) {
                        round.outcomes.push((ticket, outcome));
                    }
                }
            }
        }
        self.applied.last = Some(entry.log_id);
        Ok(())
    }

    #[tracing::instrument(name = "apply", level = "debug", skip_all, fields(commits = round.commits.len()))]
    fn finish(&mut self, round: Round) {
        let Some(last) = self.applied.last else { return };
        self.applied.revision = self.state.revision;
        let rows = self.rows(&round.commits);
        self.disk.write_later(rows);
        if !round.commits.is_empty() {
            self.replica.publish(self.state.clone(), &round.commits);
        }
        for (ticket, outcome) in round.outcomes {
            self.pending.resolve(ticket, outcome);
        }
        self.pending.lost_before(last.leader_id.term);
        self.show(last);
        round.responders.into_iter().for_each(|responder| responder.send(()));
    }

    fn show(&self, last: LogId) {
        self.index.send_replace(last.index);
        self.metrics.applied.set(last.index as i64);
        self.metrics.revision.set(self.state.revision as i64);
    }

    fn rows(&mut self, commits: &[Commit]) -> Vec<Row> {
        let generation = self.applied.generation;
        let mut rows = Vec::with_capacity(commits.len() * 2 + 2);
        for commit in commits {
            for event in commit.events.iter() {
                let key = state_key(generation, &event.key);
                rows.push(match &event.current {
                    Some(kv) => Row::Put(Family::State, key, encode_value(kv)),
                    None => Row::Delete(Family::State, key),
                });
            }
            rows.push(Row::Put(Family::Events, revision_key(commit.revision), encode_events(&commit.events)));
        }
        let oldest = self.replica.oldest();
        if oldest >= self.trimmed + TRIM_EVERY {
            rows.push(Row::DeleteRange(Family::Events, revision_key(self.trimmed), revision_key(oldest)));
            self.trimmed = oldest;
        }
        rows.push(self.applied_row());
        rows
    }

    fn applied_row(&self) -> Row {
        Row::Put(Family::Meta, Bytes::from_static(meta::APPLIED), encode(&self.applied).into())
    }

    fn snapshot(&self) -> Snapshot {
        let meta = SnapshotMeta { last_log_id: self.applied.last, last_membership: self.applied.membership.clone() };
        Snapshot { meta, snapshot: self.state.clone() }
    }

    /// Writes a state's rows under a generation that does not count yet.
    async fn stage(&self, state: &State, generation: u32) -> io::Result<()> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        for kv in state.map.values() {
            rows.push(Row::Put(Family::State, state_key(generation, &kv.key), encode_value(kv)));
            bytes += kv.value.len();
            if bytes >= INSTALL_BYTES {
                bytes = 0;
                self.disk.sync(std::mem::take(&mut rows)).await?;
            }
        }
        self.disk.sync(rows).await
    }
}

fn revision_key(revision: Revision) -> Bytes {
    Bytes::copy_from_slice(&revision.to_be_bytes())
}

impl RaftStateMachine<Types> for Applier {
    type SnapshotData = State;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut round = Round::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            self.run(entry, &mut round)?;
            round.responders.extend(responder);
            if round.commits.len() >= ROUND {
                self.finish(std::mem::take(&mut round));
            }
        }
        self.finish(round);
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(self.snapshot())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, state: State) -> io::Result<()> {
        let old = self.applied.generation;
        self.stage(&state, old + 1).await?;
        self.applied = Applied {
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
            revision: state.revision,
            generation: old + 1,
        };
        let rows = vec![
            self.applied_row(),
            Row::DeleteRange(Family::State, state_key(0, b""), state_key(old + 1, b"")),
            Row::DeleteRange(Family::Events, revision_key(0), revision_key(Revision::MAX)),
        ];
        self.disk.sync(rows).await?;
        tracing::info!(revision = state.revision, keys = state.map.len(), "installed a snapshot");
        self.state = state.clone();
        self.replica.reset(state);
        self.pending.unknown_sent();
        if let Some(last) = meta.last_log_id {
            self.show(last);
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        // Always the current state: keeping an older one would pin its values in memory.
        Ok(self.applied.last.is_some().then(|| self.snapshot()))
    }
}

/// A snapshot is a pointer copy, taken when its builder is made.
pub(crate) struct Builder(Snapshot);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = State;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        Ok(self.0.clone())
    }
}
