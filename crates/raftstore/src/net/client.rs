//! openraft's network: what a member sends to the others.

use super::codec::{answer_in, append_out, appended_in, ask_out, id_out, vote_in, vote_out};
use super::peers::{Client, Lane, NotConnected, Peers};
use crate::columns::encode;
use crate::machine::applier::Snapshot;
use crate::machine::snapshot::chunks;
use crate::machine::state::State;
use crate::types::{Member, MemberId, Types, Vote};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kybern_wire::raft as wire;
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Opening a replication stream may take so long; openraft's own limit is that of a heartbeat.
const OPEN_STREAM: Duration = Duration::from_secs(2);

type RpcError = RPCError<Types>;
type BoxFuture<'a, T> = futures::future::BoxFuture<'a, T>;
type Appended = Result<StreamAppendResult<Types>, RpcError>;

/// Makes links to members.
pub(crate) struct Network(pub(crate) Arc<Peers>);

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: MemberId, node: &Member) -> Link {
        Link { peers: self.0.clone(), target, address: node.peer.clone(), lane: Lane::Bulk }
    }

    async fn new_heartbeat_client(&mut self, target: MemberId, node: &Member) -> Link {
        Link { peers: self.0.clone(), target, address: node.peer.clone(), lane: Lane::Control }
    }
}

/// A link to one member.
pub(crate) struct Link {
    peers: Arc<Peers>,
    target: MemberId,
    address: String,
    lane: Lane,
}

fn unreachable(error: &NotConnected) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

fn network(error: &(impl std::error::Error + 'static)) -> RpcError {
    RPCError::Network(NetworkError::new(error))
}

impl Link {
    async fn client(&self, lane: Lane) -> Result<Client, RpcError> {
        self.peers.client(&self.address, lane, Some(self.target)).await.map_err(|e| unreachable(&e))
    }

    /// The connection failed, or the member is going away: connect anew next time.
    fn failed(&self, lane: Lane, status: &tonic::Status) -> RpcError {
        self.peers.forget(&self.address, lane);
        network(status)
    }

    async fn append_one(&self, request: AppendEntriesRequest<Types>) -> Appended {
        let mut client = self.client(self.lane).await?;
        let response = client.append(append_out(request)).await.map_err(|s| self.failed(self.lane, &s))?;
        appended_in(response.into_inner()).map_err(|e| network(&e))
    }

    /// Many requests on one stream, answered in order.
    async fn replicate<'s, S>(&'s self, input: S) -> Result<BoxStream<'s, Appended>, RpcError>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + 'static,
    {
        let mut client = self.client(self.lane).await?;
        let opening = client.replicate(input.map(append_out));
        let responses = match tokio::time::timeout(OPEN_STREAM, opening).await {
            Ok(opened) => opened.map_err(|s| self.failed(self.lane, &s))?.into_inner(),
            Err(elapsed) => return Err(network(&elapsed)),
        };
        Ok(responses
            .map(move |response| match response {
                Ok(response) => appended_in(response).map_err(|e| network(&e)),
                Err(status) => Err(self.failed(self.lane, &status)),
            })
            .boxed())
    }

    async fn ask(&self, request: VoteRequest<Types>, pre: bool) -> Result<VoteResponse<Types>, RpcError> {
        let mut client = self.client(Lane::Control).await?;
        let response = client.vote(ask_out(&request, pre)).await.map_err(|s| self.failed(Lane::Control, &s))?;
        answer_in(&response.into_inner()).map_err(|e| network(&e))
    }

    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> Result<SnapshotResponse<Types>, RpcError> {
        let mut client = self.client(Lane::Bulk).await?;
        let header = wire::SnapshotHeader {
            vote: Some(vote_out(&vote)),
            applied: snapshot.meta.last_log_id.as_ref().map(id_out),
            membership: encode(&snapshot.meta.last_membership).into(),
            revision: snapshot.snapshot.revision,
        };
        let first = wire::SnapshotChunk { header: Some(header), ..Default::default() };
        let rows = chunks(snapshot.snapshot).map(|rows| wire::SnapshotChunk { rows, ..Default::default() });
        let last = wire::SnapshotChunk { last: true, ..Default::default() };
        let stream = futures::stream::iter(std::iter::once(first).chain(rows).chain(std::iter::once(last)));
        let response = client.snapshot(stream).await.map_err(|s| self.failed(Lane::Bulk, &s))?;
        let vote = vote_in(response.into_inner().vote).map_err(|e| network(&e))?;
        Ok(SnapshotResponse::new(vote))
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = State;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        self.append_one(request).await.map(AppendEntriesResponse::from)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let link: &'s Self = self;
        Box::pin(async move {
            match link.lane {
                // Heartbeats are single requests: a stream for each would cost more than it carries.
                Lane::Control => Ok(input.then(|request| link.append_one(request)).boxed()),
                Lane::Bulk => link.replicate(input).await,
            }
        })
    }

    async fn vote(&mut self, request: VoteRequest<Types>, _option: RPCOption) -> Result<VoteResponse<Types>, RpcError> {
        self.ask(request, false).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.ask(request, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tracing::info!(target = self.target, revision = snapshot.snapshot.revision, "sending a snapshot");
        tokio::select! {
            sent = self.send_snapshot(vote, snapshot) => sent.map_err(StreamingError::from),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let mut client = self.client(Lane::Control).await?;
        let message = wire::TransferRequest {
            vote: Some(vote_out(request.from_leader())),
            to: *request.to_node_id(),
            last_log: request.last_log_id().map(id_out),
        };
        let response = client.transfer_leader(message).await.map_err(|s| self.failed(Lane::Control, &s))?.into_inner();
        if response.refused.is_empty() {
            return Ok(Ok(()));
        }
        tracing::info!(reason = response.refused, "a member refused to take part in a leadership transfer");
        let expected = request.last_log_id().copied();
        Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual: None }))
    }
}
