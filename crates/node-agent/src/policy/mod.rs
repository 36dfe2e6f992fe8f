//! Network policies on this node: what the servers say about its pods, as rules in a table of its own.
//!
//! Pods start behind a closed door. [`close`] makes the table before the first pod can be wired, and a pod's
//! address is let through once the servers have said what holds for the pod. The kernel keeps the rules
//! while the agent or the servers are away.

mod frame;
mod rules;
mod ruleset;
mod told;

use crate::cni::ipam::{self, Holder};
use crate::feed::Feed;
use crate::inotify::Events;
use crate::net::link::Links;
use crate::nft::{NftError, Table};
use frame::TABLE;
use futures::StreamExt;
use ipnet::Ipv4Net;
use kybern_wire::node::PolicyUpdate;
use nix::sys::inotify::AddWatchFlags;
use ruleset::Ruleset;
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use told::Told;

/// A step that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);
/// Updates that wait to be put into force.
const QUEUE: usize = 16;
const FILTERED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Closes all doors of the node's pods, unless a table is there that an earlier agent has left in force.
///
/// # Errors
/// When nft refuses.
pub async fn close(own: Ipv4Net) -> Result<(), NftError> {
    if !filtered() {
        tracing::error!("{FILTERED} is not 1 (load br_netfilter): pods of this node cannot reach each other");
    }
    let mut table = Table::open(TABLE).map_err(NftError::Run)?;
    match table.holds("ip", &frame::stamp(own)).await? {
        true => Ok(()),
        false => table.apply(&frame::closed(own, filtered())).await,
    }
}

/// Does the kernel show the rules what travels on the pods' bridge?
fn filtered() -> bool {
    std::fs::read_to_string(FILTERED).is_ok_and(|v| v.trim() == "1")
}

/// Keeps the rules equal to what the servers tell, for the pods that have addresses in `directory`.
pub async fn run(feed: Feed, own: Ipv4Net, directory: &Path) {
    let (sender, mut updates) = mpsc::channel(QUEUE);
    let _following = AbortOnDropHandle::new(tokio::spawn(follow(feed, sender)));
    enforce(own, directory, &mut updates).await;
}

async fn enforce(own: Ipv4Net, directory: &Path, updates: &mut mpsc::Receiver<PolicyUpdate>) {
    let (mut told, mut held) = (Told::default(), BTreeMap::new());
    loop {
        let failed = match Enforcer::open(own, directory, held.clone()).await {
            Ok(mut enforcer) => {
                let failed = enforcer.run(updates, &mut told).await;
                held = enforcer.held;
                failed
            }
            Err(e) => e,
        };
        tracing::error!("network policies are not up to date: {failed}; trying again");
        tokio::time::sleep(RETRY).await;
    }
}

/// Passes on what the servers tell, from one connection to the next.
async fn follow(feed: Feed, out: mpsc::Sender<PolicyUpdate>) {
    loop {
        match feed.policies().await {
            Ok(updates) => {
                let mut updates = pin!(updates);
                while let Some(update) = updates.next().await {
                    if out.send(update).await.is_err() {
                        return;
                    }
                }
            }
            Err(e) => tracing::warn!("no network policies from the server: {e}"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

struct Enforcer<'a> {
    table: Table,
    own: Ipv4Net,
    directory: &'a Path,
    given: Events,
    links: Links,
    /// Who had addresses last.
    held: BTreeMap<Ipv4Addr, Holder>,
    /// Are there rules of an earlier agent, for which nobody has spoken yet?
    inherited: bool,
    /// What the kernel has; None: unknown.
    committed: Option<Ruleset>,
}

impl<'a> Enforcer<'a> {
    async fn open(own: Ipv4Net, directory: &'a Path, held: BTreeMap<Ipv4Addr, Holder>) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let given = Events::new()?;
        let of_files = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
        given.watch(directory, of_files | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF)?;
        let table = Table::open(TABLE)?;
        let inherited = table.holds("ip", &frame::stamp(own)).await.map_err(io::Error::other)?;
        Ok(Self { table, own, directory, given, links: Links::open()?, held, inherited, committed: None })
    }

    /// Until something fails.
    async fn run(&mut self, updates: &mut mpsc::Receiver<PolicyUpdate>, told: &mut Told) -> io::Error {
        loop {
            if let Err(e) = self.sync(told).await {
                return e;
            }
            tokio::select! {
                Some(update) = updates.recv() => told.take(update),
                changed = self.given.next() => if let Err(e) = changed {
                    return e;
                },
                () = self.table.disturbed() => (self.inherited, self.committed) = (false, None),
            }
            while let Ok(update) = updates.try_recv() {
                told.take(update);
            }
        }
    }

    /// Who has addresses. A holder whose link is there has its address, whatever became of the file: without
    /// it the address would be given out twice.
    async fn read_holders(&mut self) -> io::Result<()> {
        let mut held = ipam::held(self.directory)?;
        for (address, holder) in &self.held {
            if held.contains_key(address) || self.links.find(&holder.link()).await?.is_none() {
                continue;
            }
            if ipam::restore(self.directory, *address, holder)? {
                tracing::warn!(%address, pod = holder.pod, "the file of an address in use was lost; it is written again");
                held.insert(*address, holder.clone());
            }
        }
        self.held = held;
        Ok(())
    }

    /// Before the first word of a server, pods that have doors keep them; the others have none, but answer the
    /// node.
    async fn sync(&mut self, told: &Told) -> io::Result<()> {
        self.read_holders().await?;
        self.inherited &= !told.heard;
        let wanted = Ruleset::of(told, &self.held);
        let text = match &self.committed {
            Some(old) => wanted.since(old),
            None if self.inherited => wanted.since(&Ruleset::default()),
            None => frame::closed(self.own, filtered()) + &wanted.since(&Ruleset::default()),
        };
        if !text.is_empty() {
            self.table.apply(&text).await.map_err(io::Error::other)?;
        }
        self.committed = (!self.inherited).then_some(wanted);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
