//! Who belongs to the cluster: joining, leaving, and ids that are never used twice.

use crate::core::{Core, Route};
use crate::model::{Op, Txn};
use crate::net::peers::{Lane, Peers};
use crate::propose::propose;
use crate::store::Error;
use crate::types::{Member, MemberId};
use bytes::Bytes;
use kybern_wire::raft as wire;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Counts the members that were ever added to the first one. Sorts before every key of a user.
pub(crate) const ALLOCATED: &[u8] = b"\0store/members-allocated";

/// The member that founds a cluster.
pub(crate) const FOUNDER: MemberId = 1;

/// A change of membership is tried for so long.
const CHANGE_WAIT: Duration = Duration::from_secs(30);

/// A new member must be able to tell the cluster its address, and be told who leads.
const RPC_WAIT: Duration = Duration::from_secs(20);

/// A member that could not help is asked again after this; there is nothing else to wait on.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A member as it is known to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id.
    pub id: MemberId,
    /// How to reach it.
    pub member: Member,
    /// Does it vote (or is it still catching up)?
    pub voter: bool,
}

/// All members, by id.
pub(crate) fn members(core: &Core) -> Vec<MemberInfo> {
    let config = core.raft.metrics().borrow_watched().membership_config.clone();
    let voters: BTreeSet<MemberId> = config.voter_ids().collect();
    let info =
        |(id, member): (&MemberId, &Member)| MemberInfo { id: *id, member: member.clone(), voter: voters.contains(id) };
    config.nodes().map(info).collect()
}

/// An id that no member has or ever had.
pub(crate) async fn allocate(core: &Core) -> Result<MemberId, Error> {
    let count = Op::Add { key: Bytes::from_static(ALLOCATED), delta: 1, max: i64::MAX };
    match propose(core, &Txn { ops: vec![count], ..Txn::default() }).await? {
        crate::model::TxnOutcome::Applied { changed, .. } => {
            let counted = changed.into_iter().flatten().next().and_then(|kv| String::from_utf8(kv.value.into()).ok());
            let counted = counted.and_then(|text| text.parse::<u64>().ok());
            counted.map(|n| FOUNDER + n).ok_or_else(|| Error::Unknown("the member counter is damaged".into()))
        }
        crate::model::TxnOutcome::GuardFailed { .. } => Err(Error::Unknown("the member counter is full".into())),
    }
}

/// Makes a member part of the cluster; on the leader. Learner first, voter when it has caught up;
/// a member that is known already has its addresses updated.
pub(crate) async fn admit(core: &Core, id: MemberId, member: Member) -> Result<(), String> {
    let _one_at_a_time = core.membership.lock().await;
    let known = members(core).into_iter().find(|m| m.id == id);
    match &known {
        Some(known) if known.member != member => {
            let nodes = BTreeMap::from([(id, member)]);
            change(core, || ChangeMembers::SetNodes(nodes.clone())).await?;
        }
        Some(_) => {}
        None => {
            let added = core.raft.add_learner(id, member, true).await;
            added.map_err(|error| error.to_string())?;
        }
    }
    if known.is_none_or(|known| !known.voter) {
        change(core, || ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await?;
    }
    tracing::info!(member = id, "member admitted");
    Ok(())
}

/// Takes a member out of the cluster; on the leader. Its id is never used again.
pub(crate) async fn dismiss(core: &Core, id: MemberId) -> Result<(), String> {
    let _one_at_a_time = core.membership.lock().await;
    let Some(known) = members(core).into_iter().find(|m| m.id == id) else { return Ok(()) };
    let ids = BTreeSet::from([id]);
    if known.voter {
        change(core, || ChangeMembers::RemoveVoters(ids.clone())).await?;
    } else {
        change(core, || ChangeMembers::RemoveNodes(ids.clone())).await?;
    }
    tracing::info!(member = id, "member removed");
    Ok(())
}

/// Changes the membership, waiting for a change under way (the one a former leader began) to finish.
async fn change(core: &Core, changes: impl Fn() -> ChangeMembers<MemberId, Member>) -> Result<(), String> {
    let deadline = Instant::now() + CHANGE_WAIT;
    loop {
        match core.raft.change_membership(changes(), false).await {
            Ok(_) => return Ok(()),
            Err(error) if !in_progress(&error) || Instant::now() >= deadline => return Err(error.to_string()),
            Err(_) => core.pause().await,
        }
    }
}

type ChangeError =
    openraft::errors::RaftError<crate::types::Types, openraft::errors::ClientWriteError<crate::types::Types>>;

fn in_progress(error: &ChangeError) -> bool {
    use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
    matches!(
        error,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_)
        ))
    )
}

/// Where else to ask, for a member that does not lead.
pub(crate) fn elsewhere(core: &Core) -> wire::Elsewhere {
    match core.route() {
        Some(Route::There(leader)) => wire::Elsewhere { leader: leader.id, address: leader.address },
        Some(Route::Here(_)) | None => wire::Elsewhere::default(),
    }
}

/// Asks the cluster, beginning with the members at `addresses`, to admit this member.
pub(crate) async fn join(
    peers: &Peers,
    cluster: &str,
    id: MemberId,
    member: &Member,
    addresses: &[String],
) -> Result<(), Error> {
    let request = wire::JoinRequest {
        cluster: cluster.to_owned(),
        id,
        member: Some(wire::Member { peer: member.peer.clone(), meta: member.meta.clone().into_iter().collect() }),
    };
    let ask = |address: String| {
        let request = request.clone();
        async move {
            let mut client = peers.client(&address, Lane::Bulk, None).await.map_err(|e| e.to_string())?;
            let answer = client.join(request).await.map_err(|status| status.message().to_owned())?;
            Ok(answer.into_inner().elsewhere)
        }
    };
    ask_leader(addresses, ask).await
}

/// Asks the leader to remove a member.
pub(crate) async fn leave(peers: &Peers, id: MemberId, addresses: &[String]) -> Result<(), Error> {
    let ask = |address: String| async move {
        let mut client = peers.client(&address, Lane::Bulk, None).await.map_err(|e| e.to_string())?;
        let answer = client.remove(wire::RemoveRequest { id }).await.map_err(|status| status.message().to_owned())?;
        Ok(answer.into_inner().elsewhere)
    };
    ask_leader(addresses, ask).await
}

/// Asks one member after the other, following their word on who leads, until one that leads answers.
async fn ask_leader<F, Fut>(addresses: &[String], ask: F) -> Result<(), Error>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<Option<wire::Elsewhere>, String>>,
{
    let deadline = Instant::now() + RPC_WAIT;
    let mut turn = addresses.iter().cycle();
    let mut hint: Option<String> = None;
    loop {
        let Some(address) = hint.take().or_else(|| turn.next().cloned()) else {
            return Err(Error::NoLeader("no member's address is known".into()));
        };
        let reason = match ask(address.clone()).await {
            Ok(None) => return Ok(()),
            Ok(Some(elsewhere)) if elsewhere.leader != 0 => {
                hint = Some(elsewhere.address);
                continue;
            }
            Ok(Some(_)) => "no member leads yet".to_owned(),
            Err(reason) => reason,
        };
        tracing::debug!(address, reason, "asked a member in vain");
        if Instant::now() >= deadline {
            return Err(Error::NoLeader(reason));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
