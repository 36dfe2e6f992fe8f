//! The network as a pod of this node sees it, for `kybern net check`: a network namespace that is wired like a
//! pod's, answers the other nodes' and calls them, services, DNS and the outside.

mod call;
mod facts;

use crate::cni::{self, ipam};
use crate::net::netns;
use call::{Answering, Call};
use futures::{StreamExt, stream};
use kybern_api::error::Status;
use serde_json::{Value, json};
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

/// Where the namespaces answer each other, over TCP and UDP.
pub const PORT: u16 = 10_999;
/// The path below which servers ask.
pub const PATH: &str = "/netcheck/";
/// Nobody leaves a namespace behind: it goes away after this long.
const LIFETIME: Duration = Duration::from_secs(60);
/// Calls that are made at the same time, and at most in one request.
const AT_ONCE: usize = 32;
const MOST: usize = 4096;
const CONTAINER: &str = "net-check";

/// The node's side of a check.
#[derive(Debug)]
pub struct NetCheck {
    node: String,
    paths: cni::Paths,
    /// The cluster's DNS address and domain.
    dns: (Ipv4Addr, String),
    place: Mutex<Option<Place>>,
}

#[derive(Debug)]
struct Place {
    address: Ipv4Addr,
    _answering: Answering,
    _end: AbortOnDropHandle<()>,
}

impl NetCheck {
    /// Of the node with this name, whose network is configured in `paths`, with the cluster's DNS address and
    /// domain.
    pub fn new(node: &str, paths: cni::Paths, dns: (Ipv4Addr, String)) -> Arc<Self> {
        Arc::new(Self { node: node.into(), paths, dns, place: Mutex::new(None) })
    }

    /// Answers a request below [`PATH`]: `begin`, `call?check=KIND,NAME,ADDRESS:PORT&...`, `end`.
    ///
    /// # Errors
    /// When it cannot be understood, or the namespace cannot be made.
    pub async fn serve(self: &Arc<Self>, verb: &str, query: &str) -> Result<Value, Status> {
        let failed = |e: io::Error| Status::internal(format!("the node {}: {e}", self.node));
        match verb {
            "begin" => {
                let address = self.begin().await.map_err(failed)?;
                let (dns, domain) = &self.dns;
                let wrong = facts::wrong().await;
                Ok(json!({ "address": address, "port": PORT, "dns": dns, "domain": domain, "wrong": wrong }))
            }
            "call" => {
                let calls = calls(query).ok_or_else(|| Status::bad_request("these are no checks"))?;
                Ok(self.call(calls).await.into())
            }
            "end" => {
                let mut place = self.place.lock().await;
                if place.take().is_some() {
                    self.clear().await.map_err(failed)?;
                }
                Ok(json!({}))
            }
            _ => Err(Status::bad_request("begin, call or end")),
        }
    }

    fn netns(&self) -> String {
        format!("kybern-check-{}", self.node)
    }

    async fn begin(self: &Arc<Self>) -> io::Result<Ipv4Addr> {
        let mut place = self.place.lock().await;
        if let Some(place) = place.as_mut() {
            place._end = self.later();
            return Ok(place.address);
        }
        let (conf, name) = (cni::installed(&self.paths)?, self.netns());
        let path = netns::path(&name);
        let wired = tokio::task::spawn_blocking(move || {
            netns::create(&name)?;
            cni::attach(&conf, CONTAINER, &netns::path(&name), ipam::OURS)
        });
        let address = wired.await.map_err(io::Error::other)??;
        let answering = Answering::start(path, address, &self.node).await?;
        *place = Some(Place { address, _answering: answering, _end: self.later() });
        Ok(address)
    }

    fn later(self: &Arc<Self>) -> AbortOnDropHandle<()> {
        let check = Arc::downgrade(self);
        AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(LIFETIME).await;
            // Not by this task: it goes with the place.
            if let Some(check) = check.upgrade() {
                tokio::spawn(async move { check.serve("end", "").await });
            }
        }))
    }

    async fn clear(&self) -> io::Result<()> {
        let (conf, name) = (cni::installed(&self.paths)?, self.netns());
        let cleared = tokio::task::spawn_blocking(move || {
            cni::detach(&conf, CONTAINER)?;
            netns::delete(&name)
        });
        cleared.await.map_err(io::Error::other)?
    }

    /// What was wrong with each call; null: nothing.
    async fn call(&self, calls: Vec<Call>) -> Vec<Value> {
        let path: PathBuf = netns::path(&self.netns());
        let made = stream::iter(calls).map(|call| call.make(path.clone()));
        made.buffered(AT_ONCE).map(Value::from).collect().await
    }
}

fn calls(query: &str) -> Option<Vec<Call>> {
    let asked = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "check");
    let calls = asked.map(|(_, text)| Call::parse(&text)).collect::<Option<Vec<_>>>()?;
    (calls.len() <= MOST).then_some(calls)
}

#[cfg(test)]
mod tests;
