//! One server after the other carries the feed.

use super::{Feed, Shared};
use kybern_wire::node::{ServerList, ServersRequest};
use std::time::Duration;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// How long a server may take to begin the feed.
const BEGIN_DEADLINE: Duration = Duration::from_secs(5);
/// Pause after all servers have failed, growing.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl Feed {
    /// Keeps the feed connected until cancelled.
    pub async fn run(&self, cancel: CancellationToken) {
        tokio::select! {
            () = self.shared.carry() => {}
            () = cancel.cancelled() => {}
        }
        self.shared.lost();
    }
}

impl Shared {
    async fn carry(&self) {
        let (mut attempt, mut failed, mut pause) = (0, 0, PAUSE.0);
        loop {
            if let Some(address) = self.servers.at(attempt)
                && let Some(channel) = (self.connect)(&address)
            {
                match self.session(channel, &address).await {
                    // It did carry the feed: the next one is tried at once.
                    Ok(()) => (failed, pause) = (0, PAUSE.0),
                    Err(status) => {
                        tracing::debug!(address, %status, "server does not carry the feed");
                        failed += 1;
                    }
                }
            } else {
                failed += 1;
            }
            attempt += 1;
            if failed >= self.servers.count() {
                tokio::time::sleep(pause).await;
                (failed, pause) = (0, (pause * 2).min(PAUSE.1));
            }
        }
    }
    /// Lets one server carry the feed until it is lost. An error: it never did.
    async fn session(&self, channel: Channel, address: &str) -> Result<(), tonic::Status> {
        let again = self.again.notified();
        tokio::pin!(again);
        let requests = UnboundedReceiverStream::new(self.subscriptions.attach());
        let beginning = async {
            let mut client = self.client(channel.clone());
            let events = client.feed(self.request(requests)).await?.into_inner();
            let servers = client.servers(self.request(ServersRequest {})).await?.into_inner();
            Ok::<_, tonic::Status>((events, servers))
        };
        let begun = tokio::time::timeout(BEGIN_DEADLINE, beginning).await;
        let begun = begun.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("the feed did not begin")));
        let (mut events, mut servers) = begun.inspect_err(|_| self.lost())?;
        tracing::info!(address, "connected");
        self.current.send_replace(Some(channel));
        loop {
            tokio::select! {
                () = &mut again => break,
                event = events.message() => match event {
                    Ok(Some(event)) => self.subscriptions.deliver(event),
                    _ => break,
                },
                list = servers.message() => match list {
                    Ok(Some(list)) => self.learn(list),
                    _ => break,
                },
            }
        }
        tracing::info!(address, "connection lost");
        self.lost();
        Ok(())
    }

    fn lost(&self) {
        self.subscriptions.detach();
        self.current.send_replace(None);
    }

    fn learn(&self, list: ServerList) {
        self.servers.learn(list.servers.into_iter().map(|s| s.address).collect());
    }
}
