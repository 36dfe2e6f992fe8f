//! What servers reach on the node: the reverse streams, one to every server, and what comes over them.

mod blob;
mod command;
mod connection;
mod logs;
mod session;
#[cfg(test)]
mod tests;

use crate::feed::{Connect, Feed};
use crate::images::content::Content;
use crate::netcheck::{self, NetCheck};
use crate::node::stats::Stats;
use crate::pods::find::Containers;
use crate::runtime::Runtime;
use bytes::Bytes;
use kybern_api::error::{Reason, Status};
use kybern_api::seam::Clock;
use kybern_stream::mux::Channel;
use kybern_wire::node::open::What;
use kybern_wire::node::{FromNode, Http, Opened, from_node};
use session::reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Pause before a lost server is called again, growing.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Keeps a reverse stream to every server and serves what they open.
#[derive(Clone)]
pub struct Streams {
    /// The node's name, as in its certificate.
    pub node: String,
    /// Makes connections to servers.
    pub connect: Connect,
    /// What is behind the streams.
    pub services: Arc<Services>,
}

/// What channels lead to.
pub struct Services {
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Where containers are.
    pub containers: Arc<dyn Containers>,
    /// For log lines since some seconds ago.
    pub clock: Arc<dyn Clock>,
    /// What the node uses.
    pub stats: Arc<Stats>,
    /// The content of its images; None: they are not shared.
    pub content: Option<Content>,
    /// How its pods' network does.
    pub check: Arc<NetCheck>,
    /// What its Ingress proxy has counted.
    pub ingress: Arc<kybern_ingress::Metrics>,
}

impl Streams {
    /// Follows the list of servers until cancelled.
    pub async fn run(self, feed: &Feed, cancel: CancellationToken) {
        let mut servers = feed.servers();
        let mut tasks: HashMap<String, AbortOnDropHandle<()>> = HashMap::new();
        loop {
            let live = servers.borrow_and_update().clone();
            tasks.retain(|address, _| live.contains(address));
            for address in live {
                tasks.entry(address.clone()).or_insert_with(|| {
                    let streams = self.clone();
                    AbortOnDropHandle::new(tokio::spawn(async move { streams.keep(&address).await }))
                });
            }
            tokio::select! {
                changed = servers.changed() => if changed.is_err() { return },
                () = cancel.cancelled() => return,
            }
        }
    }
    /// Keeps the stream to one server.
    async fn keep(&self, address: &str) {
        let mut pause = PAUSE.0;
        loop {
            if let Some(channel) = (self.connect)(address) {
                match reverse(channel, &self.node, &self.services).await {
                    Ok(()) => pause = PAUSE.0,
                    Err(status) => tracing::debug!(address, %status, "no reverse stream"),
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}

/// A channel that a server wants, not yet answered.
struct Opening {
    id: u64,
    channel: Channel,
    out: mpsc::UnboundedSender<FromNode>,
}

impl Opening {
    /// The channel is there.
    fn accept(self, code: u32, content_type: &str) -> Channel {
        self.answer(Opened { code, content_type: content_type.into(), length: 0 })
    }
    /// The same, with all that is to be said of it.
    fn answer(self, opened: Opened) -> Channel {
        // A lost transport shows at the first frame.
        self.out.send(FromNode { channel: self.id, frame: Some(from_node::Frame::Opened(opened)) }).ok();
        self.channel
    }
    /// It will not be.
    fn refuse(self, status: &Status) {
        self.channel.sender.close(&String::from_utf8_lossy(&status.to_json()));
    }
}

impl Services {
    /// Serves one channel to its end.
    async fn serve(&self, what: Option<What>, opening: Opening) {
        match what {
            Some(What::Logs(logs)) => logs::serve(self, logs, opening).await,
            Some(What::Exec(exec)) => command::exec(self, exec, opening).await,
            Some(What::Attach(attach)) => command::attach(self, attach, opening).await,
            Some(What::PortForward(forward)) => connection::forward(self, forward, opening).await,
            Some(What::Dial(dial)) => connection::dial(dial, opening).await,
            Some(What::Blob(wanted)) => blob::send(self, wanted, opening).await,
            Some(What::Http(http)) => serve_http(self, &http, opening).await,
            None => opening.refuse(&Status::bad_request("nothing to open")),
        }
    }
}

/// The kubelet's HTTP paths, as far as they exist, and our own.
async fn serve_http(services: &Services, request: &Http, opening: Opening) {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let (kind, body) = match path {
        "/healthz" => ("text/plain", Bytes::from_static(b"ok")),
        "/metrics" => match services.ingress.text() {
            Ok(text) => (METRICS, text.into()),
            Err(e) => return opening.refuse(&Status::internal(e.to_string())),
        },
        "/stats/summary" => match services.stats.summary().await {
            Ok(summary) => ("application/json", summary.to_string().into()),
            Err(e) => return opening.refuse(&Status::internal(e.to_string())),
        },
        _ if path.starts_with(netcheck::PATH) => {
            match services.check.serve(&path[netcheck::PATH.len()..], query).await {
                Ok(answer) => ("application/json", answer.to_string().into()),
                Err(status) => return opening.refuse(&status),
            }
        }
        _ => return opening.refuse(&Status::new(Reason::NotFound, format!("the node serves no {path}"))),
    };
    let channel = opening.accept(200, kind);
    // A lost server needs no answer.
    if channel.sender.send(0, body).await.is_ok() {
        channel.sender.close("");
    }
}
