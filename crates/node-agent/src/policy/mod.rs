//! Network policies on this node: what the servers say about its pods, as rules in a table of its own.
//!
//! Pods start behind a closed door. [`close`] makes the table before the first pod can be wired, and a pod's
//! address is let through once the servers have said what holds for the pod. The kernel keeps the rules
//! while the agent or the servers are away.

mod ruleset;
mod told;

use crate::cni::ipam;
use crate::feed::Feed;
use crate::inotify::Events;
use crate::proxy::{Nft, NftError};
use ipnet::Ipv4Net;
use kybern_wire::node::PolicyUpdate;
use nix::sys::inotify::AddWatchFlags;
use ruleset::{Ruleset, TABLE};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
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
pub async fn close(nft: &Nft, own: Ipv4Net) -> Result<(), NftError> {
    let filtered = std::fs::read_to_string(FILTERED).is_ok_and(|v| v.trim() == "1");
    if !filtered {
        tracing::error!("{FILTERED} is not 1 (load br_netfilter): pods of this node cannot reach each other");
    }
    nft.apply(&ruleset::bridge(filtered)).await?;
    if !nft.holds("ip", TABLE).await? {
        nft.apply(&ruleset::base(own)).await?;
    }
    Ok(())
}

/// Keeps the rules equal to what the servers tell, for the pods that have addresses in `directory`.
pub async fn run(feed: Feed, own: Ipv4Net, directory: PathBuf) {
    let (sender, updates) = mpsc::channel(QUEUE);
    let _following = AbortOnDropHandle::new(tokio::spawn(follow(feed, sender)));
    let mut enforcer =
        Enforcer { nft: Nft::default(), own, told: Told::default(), addresses: BTreeMap::new(), committed: None };
    let mut updates = Some(updates);
    while let Some(rest) = updates.take() {
        match enforcer.run(rest, &directory).await {
            Ok(()) => return,
            Err((rest, e)) => {
                tracing::error!("the pods' addresses cannot be followed: {e}; trying again");
                updates = Some(rest);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Passes on what the servers tell, from one connection to the next.
async fn follow(feed: Feed, out: mpsc::Sender<PolicyUpdate>) {
    loop {
        match feed.policies().await {
            Ok(mut updates) => {
                while let Ok(Some(update)) = updates.message().await {
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

struct Enforcer {
    nft: Nft,
    own: Ipv4Net,
    told: Told,
    addresses: BTreeMap<Ipv4Addr, String>,
    /// What the kernel has; None: unknown.
    committed: Option<Ruleset>,
}

type Failed = (mpsc::Receiver<PolicyUpdate>, io::Error);

impl Enforcer {
    /// Until nobody tells anything any more.
    async fn run(&mut self, mut updates: mpsc::Receiver<PolicyUpdate>, directory: &Path) -> Result<(), Failed> {
        let mut events = match watch(directory) {
            Ok(events) => events,
            Err(e) => return Err((updates, e)),
        };
        loop {
            match ipam::pods(directory) {
                Ok(addresses) => self.addresses = addresses,
                Err(e) => return Err((updates, e)),
            }
            // Before the first word of a server the rules of an earlier agent stay.
            if self.told.heard
                && let Err(e) = self.sync().await
            {
                tracing::error!("network policies are not up to date: {e}; trying again");
                // Whatever it was, the next transaction does not build on it.
                self.committed = None;
                tokio::time::sleep(RETRY).await;
                continue;
            }
            tokio::select! {
                update = updates.recv() => match update {
                    Some(update) => self.told.take(update),
                    None => return Ok(()),
                },
                changed = events.next() => if let Err(e) = changed {
                    return Err((updates, e));
                },
            }
            while let Ok(update) = updates.try_recv() {
                self.told.take(update);
            }
        }
    }

    async fn sync(&mut self) -> Result<(), NftError> {
        let wanted = Ruleset::of(&self.told, &self.addresses);
        let text = match &self.committed {
            Some(old) => wanted.since(old),
            None => ruleset::base(self.own) + &wanted.since(&Ruleset::default()),
        };
        if !text.is_empty() {
            self.nft.apply(&text).await?;
        }
        self.committed = Some(wanted);
        Ok(())
    }
}

fn watch(directory: &Path) -> io::Result<Events> {
    std::fs::create_dir_all(directory)?;
    let events = Events::new()?;
    events.watch(directory, AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE)?;
    Ok(events)
}
