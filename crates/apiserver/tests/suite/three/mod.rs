//! `k8s/validation.md` as named tests over HTTP against three servers on sockets of their own: what is
//! written through one server is read through another.

/// Members of a replicated store, as the store's own suite makes them.
#[path = "../../../../raftstore/tests/suite/common.rs"]
#[expect(dead_code, reason = "the store's own suite uses all of it")]
mod members;
mod reads;
mod watches;
mod writes;

use crate::sockets::{Lines, Served, serve};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kybern_raftstore::memory::MemoryStore;
use kybern_raftstore::store::Store;
use kybern_testkit::{Builder, World, objects};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use crate::cases::{MAPS, names, none};

/// An answer over a socket.
pub struct Reply {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub json: Value,
}

impl Reply {
    /// `code reason`.
    pub fn verdict(&self) -> String {
        format!("{} {}", self.code, self.json["reason"].as_str().unwrap_or_default()).trim_end().to_owned()
    }
    pub fn revision(&self) -> u64 {
        let text = self.json["metadata"]["resourceVersion"].as_str();
        text.unwrap_or_else(|| panic!("no revision in {}", self.json)).parse().expect("a number")
    }
    pub fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }
    pub fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|w| w.to_str().expect("text")).collect()
    }
}

/// Three servers of one cluster, and a turn that goes round.
pub struct Three {
    worlds: Vec<World>,
    served: Vec<Served>,
    client: Client<HttpConnector, Full<Bytes>>,
    turn: AtomicUsize,
    /// Dropped last, when nobody uses its stores any more.
    _members: Option<members::Cluster>,
}

impl Three {
    /// On one store in memory, whose time can be moved.
    pub async fn start() -> Self {
        let store = MemoryStore::new();
        Self::over(vec![store.clone(), store.clone(), store], None).await
    }

    /// The same, and on three members of a replicated store with real TLS between them.
    pub async fn both() -> [Self; 2] {
        let members = members::Cluster::new(3).await;
        members.leader().await;
        let stores = members.nodes.iter().map(|node| node.store.clone() as Arc<dyn Store>).collect();
        [Self::start().await, Self::over(stores, Some(members)).await]
    }

    async fn over(stores: Vec<Arc<dyn Store>>, members: Option<members::Cluster>) -> Self {
        let mut worlds = Vec::new();
        for store in stores {
            let builder = Builder::default().store(store);
            worlds.push(if worlds.is_empty() { builder } else { builder.empty() }.start().await);
        }
        let mut served = Vec::new();
        for world in &worlds {
            served.push(serve(world).await);
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { worlds, served, client, turn: AtomicUsize::new(0), _members: members }
    }

    /// Requests, with everything that can be said.
    pub async fn ask(&self, method: &str, path: &str, media: &str, body: impl Into<Bytes>) -> Reply {
        let response = self.open(method, path, media, body.into()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Reply { code: parts.status.as_u16(), headers: parts.headers, json }
    }

    /// Every request goes to the next server.
    async fn open(&self, method: &str, path: &str, media: &str, body: Bytes) -> http::Response<hyper::body::Incoming> {
        let server = &self.served[self.turn.fetch_add(1, Ordering::Relaxed) % self.served.len()];
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", server.address))
            .header("authorization", "Bearer admin")
            .header("content-type", media)
            .body(Full::new(body));
        self.client.request(request.expect("a request")).await.expect("an answer")
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "application/json", "").await
    }
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask("POST", path, "application/json", body.to_string()).await
    }
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.ask("PUT", path, "application/json", body.to_string()).await
    }
    pub async fn merge(&self, path: &str, patch: &Value) -> Reply {
        self.ask("PATCH", path, "application/merge-patch+json", patch.to_string()).await
    }
    pub async fn delete(&self, path: &str, options: &Value) -> Reply {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        self.ask("DELETE", path, "application/json", body).await
    }
    /// A stream of events.
    pub async fn watch(&self, path: &str) -> Lines {
        let response = self.open("GET", path, "application/json", Bytes::new()).await;
        assert_eq!(response.status(), 200, "{path}");
        Lines::new(response.into_body())
    }

    /// Creates config maps; the last one's revision.
    pub async fn maps(&self, names: &[&str]) -> u64 {
        let mut revision = 0;
        for name in names {
            let reply = self.post(MAPS, &objects::config_map(name, "x")).await;
            assert_eq!(reply.code, 201, "{}", reply.json);
            revision = reply.revision();
        }
        revision
    }

    /// Time goes on, and what is forgotten with it.
    pub async fn later(&self, time: Duration) {
        for world in &self.worlds {
            // A consistent list: the caches hold what was written before.
            assert_eq!(world.call("GET", MAPS, &none()).await.code, 200);
            world.clock.advance(time);
        }
    }

    pub async fn end(self) {
        for served in self.served {
            served.end().await;
        }
    }
}
