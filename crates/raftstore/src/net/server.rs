//! What a member answers to the others.

use super::codec::{answer_out, append_in, appended_out, ask_in, id_in, vote_in, vote_out};
use super::listen::Secured;
use super::peers::{CLUSTER, MAX_MESSAGE, TARGET};
use crate::barrier;
use crate::columns::decode;
use crate::core::Core;
use crate::machine::applier::Snapshot;
use crate::machine::snapshot::Assembly;
use crate::membership::{admit, dismiss, elsewhere};
use crate::types::{Member, SnapshotMeta, Vote};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kybern_wire::raft as wire;
use kybern_wire::raft::peer_server::{Peer, PeerServer};
use openraft::raft::TransferLeaderRequest;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

type Reply<T> = Result<Response<T>, Status>;

/// Answers the other members until cancelled.
pub(crate) async fn serve(
    core: Arc<Core>,
    connections: impl Stream<Item = std::io::Result<Secured>> + Send,
    stop: CancellationToken,
) {
    let (id, cluster) = (core.id, core.cluster.clone());
    let service =
        PeerServer::new(Service { core }).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let service = tonic::service::interceptor::InterceptedService::new(service, move |request: Request<()>| {
        meant_for(request.metadata(), &cluster, id).map(|()| request)
    });
    let served = tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        // Entries come in large messages: few frames each.
        .max_frame_size(1 << 20)
        .add_service(service)
        .serve_with_incoming(connections);
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::error!(%error, "the members' port has failed");
        },
        () = stop.cancelled() => {}
    }
}

/// Refuses what another cluster sends, or what was meant for the former owner of this address.
fn meant_for(metadata: &MetadataMap, cluster: &str, id: u64) -> Result<(), Status> {
    let is = |name, wanted: &str| metadata.get(name).is_none_or(|value| value.as_bytes() == wanted.as_bytes());
    if metadata.get(CLUSTER).is_none() || !is(CLUSTER, cluster) {
        return Err(Status::failed_precondition("this member belongs to another cluster"));
    }
    if !is(TARGET, &id.to_string()) {
        return Err(Status::failed_precondition("another member is at this address"));
    }
    Ok(())
}

struct Service {
    core: Arc<Core>,
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

impl Service {
    fn leads(&self) -> bool {
        self.core.leadership.borrow().leading
    }

    async fn receive_snapshot(&self, mut stream: Streaming<wire::SnapshotChunk>) -> Result<(Vote, Snapshot), Status> {
        let broken = || Status::invalid_argument("the snapshot is broken off or malformed");
        let header = stream.message().await?.and_then(|chunk| chunk.header).ok_or_else(broken)?;
        let mut assembly = Assembly::new(header.revision);
        loop {
            let chunk = stream.message().await?.ok_or_else(broken)?;
            assembly.add(&chunk.rows).map_err(|_| broken())?;
            if chunk.last {
                break;
            }
        }
        let meta = SnapshotMeta {
            last_log_id: header.applied.as_ref().map(id_in),
            last_membership: decode(&header.membership, "membership").map_err(|_| broken())?,
        };
        Ok((vote_in(header.vote)?, Snapshot { meta, snapshot: assembly.finish() }))
    }
}

#[tonic::async_trait]
impl Peer for Service {
    type ReplicateStream = BoxStream<'static, Result<wire::AppendResponse, Status>>;

    async fn replicate(&self, request: Request<Streaming<wire::AppendRequest>>) -> Reply<Self::ReplicateStream> {
        // A broken or malformed stream ends; the leader opens another.
        let valid = |message: Result<wire::AppendRequest, Status>| append_in(message.ok()?).ok();
        let requests = request.into_inner().scan((), move |(), message| std::future::ready(valid(message)));
        let responses = self.core.raft.stream_append(requests);
        Ok(Response::new(responses.map(|result| result.map(appended_out).map_err(stopped)).boxed()))
    }

    async fn append(&self, request: Request<wire::AppendRequest>) -> Reply<wire::AppendResponse> {
        let request = append_in(request.into_inner())?;
        let mut responses = self.core.raft.stream_append(futures::stream::iter([request])).boxed();
        let result = responses.next().await.ok_or_else(|| Status::unavailable("stopping"))?.map_err(stopped)?;
        Ok(Response::new(appended_out(result)))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Reply<wire::VoteResponse> {
        let request = request.into_inner();
        let ask = ask_in(&request)?;
        let raft = &self.core.raft;
        let answer = if request.pre { raft.pre_vote(ask).await } else { raft.vote(ask).await };
        Ok(Response::new(answer_out(&answer.map_err(stopped)?)))
    }

    async fn snapshot(&self, request: Request<Streaming<wire::SnapshotChunk>>) -> Reply<wire::SnapshotResponse> {
        let (vote, snapshot) = self.receive_snapshot(request.into_inner()).await?;
        let installed = self.core.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(Response::new(wire::SnapshotResponse { vote: Some(vote_out(&installed.vote)) }))
    }

    async fn transfer_leader(&self, request: Request<wire::TransferRequest>) -> Reply<wire::TransferResponse> {
        let request = request.into_inner();
        let last_log = request.last_log.as_ref().map(id_in);
        let transfer = TransferLeaderRequest::new(vote_in(request.vote)?, request.to, last_log);
        let answer = self.core.raft.handle_transfer_leader(transfer).await.map_err(stopped)?;
        let refused = answer.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(wire::TransferResponse { refused }))
    }

    async fn read_index(&self, _: Request<wire::ReadIndexRequest>) -> Reply<wire::ReadIndexResponse> {
        if !self.leads() {
            return Ok(Response::new(wire::ReadIndexResponse::default()));
        }
        let index = barrier::local(&self.core).await.map_err(stopped)?;
        Ok(Response::new(wire::ReadIndexResponse { leads: true, index }))
    }

    async fn propose(&self, request: Request<wire::ProposeRequest>) -> Reply<wire::ProposeResponse> {
        let request = request.into_inner();
        if !self.leads() {
            return Ok(Response::new(wire::ProposeResponse { proposed: false }));
        }
        let proposed = self.core.queue.forwarded(request.batch, request.term).await.map_err(stopped)?;
        Ok(Response::new(wire::ProposeResponse { proposed }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Reply<wire::JoinResponse> {
        let request = request.into_inner();
        let member = request.member.ok_or_else(|| Status::invalid_argument("no member"))?;
        if request.cluster != self.core.cluster {
            return Err(Status::failed_precondition("the caller belongs to another cluster"));
        }
        if !self.leads() {
            return Ok(Response::new(wire::JoinResponse { elsewhere: Some(elsewhere(&self.core)) }));
        }
        let member = Member { peer: member.peer, meta: member.meta.into_iter().collect() };
        admit(&self.core, request.id, member).await.map_err(Status::unavailable)?;
        Ok(Response::new(wire::JoinResponse { elsewhere: None }))
    }

    async fn remove(&self, request: Request<wire::RemoveRequest>) -> Reply<wire::RemoveResponse> {
        if !self.leads() {
            return Ok(Response::new(wire::RemoveResponse { elsewhere: Some(elsewhere(&self.core)) }));
        }
        dismiss(&self.core, request.into_inner().id).await.map_err(Status::unavailable)?;
        Ok(Response::new(wire::RemoveResponse { elsewhere: None }))
    }
}
