//! openraft's messages to and from their wire form.

use crate::batch::Batch;
use crate::columns::{decode, encode};
use crate::types::{CommittedLeader, Entry, LogId, Types, Vote, log_id};
use kybern_wire::raft as wire;
use openraft::EntryPayload;
use openraft::alias::LeaderIdOf;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId;

/// A message that does not say what it must.
#[derive(Debug, thiserror::Error)]
#[error("malformed message: {0}")]
pub(crate) struct Malformed(&'static str);

impl From<Malformed> for tonic::Status {
    fn from(malformed: Malformed) -> Self {
        tonic::Status::invalid_argument(malformed.to_string())
    }
}

pub(crate) fn vote_out(vote: &Vote) -> wire::Ballot {
    wire::Ballot { term: vote.leader_id.term, candidate: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote_in(ballot: Option<wire::Ballot>) -> Result<Vote, Malformed> {
    let ballot = ballot.ok_or(Malformed("no vote"))?;
    let leader_id = LeaderIdOf::<Types>::new(ballot.term, ballot.candidate);
    Ok(Vote { leader_id, committed: ballot.committed })
}

pub(crate) fn id_out(id: &LogId) -> wire::LogId {
    wire::LogId { term: id.leader_id.term, index: id.index }
}

pub(crate) fn id_in(id: &wire::LogId) -> LogId {
    log_id(id.term, id.index)
}

fn entry_out(entry: Entry) -> wire::Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => wire::entry::Payload::Blank(wire::Blank {}),
        EntryPayload::Normal(batch) => wire::entry::Payload::Batch(batch.0),
        EntryPayload::Membership(membership) => wire::entry::Payload::Membership(encode(&membership).into()),
    };
    wire::Entry { id: Some(id_out(&entry.log_id)), payload: Some(payload) }
}

fn entry_in(entry: wire::Entry) -> Result<Entry, Malformed> {
    let id = entry.id.as_ref().map(id_in).ok_or(Malformed("entry without id"))?;
    let payload = match entry.payload.ok_or(Malformed("entry without payload"))? {
        wire::entry::Payload::Blank(_) => EntryPayload::Blank,
        wire::entry::Payload::Batch(bytes) => EntryPayload::Normal(Batch(bytes)),
        wire::entry::Payload::Membership(bytes) => {
            EntryPayload::Membership(decode(&bytes, "membership").map_err(|_| Malformed("membership"))?)
        }
    };
    Ok(Entry { log_id: id, payload })
}

pub(crate) fn append_out(request: AppendEntriesRequest<Types>) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(vote_out(&request.vote)),
        previous: request.prev_log_id.as_ref().map(id_out),
        entries: request.entries.into_iter().map(entry_out).collect(),
        committed: request.leader_commit.as_ref().map(id_out),
    }
}

pub(crate) fn append_in(request: wire::AppendRequest) -> Result<AppendEntriesRequest<Types>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: vote_in(request.vote)?,
        prev_log_id: request.previous.as_ref().map(id_in),
        entries: request.entries.into_iter().map(entry_in).collect::<Result<_, _>>()?,
        leader_commit: request.committed.as_ref().map(id_in),
    })
}

pub(crate) fn appended_out(result: StreamAppendResult<Types>) -> wire::AppendResponse {
    use wire::append_response::Result as Wire;
    let result = match result {
        Ok(id) => Wire::Matched(wire::Matched { id: id.as_ref().map(id_out) }),
        Err(StreamAppendError::Conflict(id)) => Wire::Conflict(id_out(&id)),
        Err(StreamAppendError::HigherVote(vote)) => Wire::HigherVote(vote_out(&vote)),
    };
    wire::AppendResponse { result: Some(result) }
}

pub(crate) fn appended_in(response: wire::AppendResponse) -> Result<StreamAppendResult<Types>, Malformed> {
    use wire::append_response::Result as Wire;
    Ok(match response.result.ok_or(Malformed("append without result"))? {
        Wire::Matched(matched) => Ok(matched.id.as_ref().map(id_in)),
        Wire::Conflict(id) => Err(StreamAppendError::Conflict(id_in(&id))),
        Wire::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_in(Some(vote))?)),
    })
}

pub(crate) fn ask_out(request: &VoteRequest<Types>, pre: bool) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote_out(&request.vote)),
        last_log: request.last_log_id.as_ref().map(id_out),
        transfer: request.leadership_transfer,
        pre,
    }
}

pub(crate) fn ask_in(request: &wire::VoteRequest) -> Result<VoteRequest<Types>, Malformed> {
    Ok(VoteRequest {
        vote: vote_in(request.vote)?,
        last_log_id: request.last_log.as_ref().map(id_in),
        leadership_transfer: request.transfer,
    })
}

pub(crate) fn answer_out(response: &VoteResponse<Types>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(vote_out(&response.vote)),
        last_log: response.last_log_id.as_ref().map(id_out),
        granted: response.vote_granted,
    }
}

pub(crate) fn answer_in(response: &wire::VoteResponse) -> Result<VoteResponse<Types>, Malformed> {
    Ok(VoteResponse {
        vote: vote_in(response.vote)?,
        last_log_id: response.last_log.as_ref().map(id_in),
        vote_granted: response.granted,
    })
}

/// The leader of a term, as preconditions name it.
pub(crate) fn leader_of(term: u64) -> CommittedLeader {
    CommittedLeader::new(term)
}
