//! Carries a remote command between a client's or runtime's [`Session`] and a [`mux::Channel`]:
//! the same at the server (session with kubectl) and at the node (session with the runtime).

use crate::mux::{self, ChannelError};
use crate::session::{Channel, Item, Receiver, Sender, Session};
use bytes::Bytes;

/// Runs until one side is over. Gives back the session, still open, and why the channel broke off, if it
/// did: the caller says the last word and closes the session. The channel is closed on return.
///
/// `status` translates what arrives on the error stream, for peers with another form of it.
pub async fn remote_command(
    session: Session,
    channel: mux::Channel,
    status: impl Fn(Bytes) -> Bytes,
) -> (Session, Option<ChannelError>) {
    let Session { mut sender, mut receiver } = session;
    let mux::Channel { sender: to_channel, receiver: mut from_channel } = channel;
    let ended = {
        let inward = session_to_channel(&mut receiver, &to_channel);
        let outward = channel_to_session(&mut from_channel, &mut sender, status);
        tokio::pin!(inward, outward);
        // The session's streams may all end while the channel still has to say something, and the other
        // way round: only a lost side ends both.
        tokio::select! {
            () = &mut inward => None,
            ended = &mut outward => ended,
        }
    };
    to_channel.close("");
    (Session { sender, receiver }, ended)
}

/// Ends when the session's peer is gone or breaks the framing.
async fn session_to_channel(from: &mut Receiver, to: &mux::Sender) {
    loop {
        let done = match from.next().await {
            Ok(Some(Item::Data(c, bytes))) => to.send(c.number().into(), bytes).await,
            Ok(Some(Item::End(c))) => to.end(c.number().into()),
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "session ended");
                return;
            }
        };
        if done.is_err() {
            // The other direction learns why, and says it.
            return std::future::pending().await;
        }
    }
}

/// Ends when the channel is over, or with None when the session takes no more.
async fn channel_to_session(
    from: &mut mux::Receiver,
    to: &mut Sender,
    status: impl Fn(Bytes) -> Bytes,
) -> Option<ChannelError> {
    loop {
        let data = match from.recv().await {
            Ok(Some(data)) => data,
            Ok(None) => return None,
            Err(error) => return Some(error),
        };
        let Some(channel) = Channel::from_number(data.stream) else { continue };
        let bytes = if channel == Channel::Error && !data.bytes.is_empty() { status(data.bytes) } else { data.bytes };
        let sent = if bytes.is_empty() { Ok(()) } else { to.send(channel, bytes).await };
        let done = match sent {
            Ok(()) if data.end => to.end(channel).await,
            other => other,
        };
        if done.is_err() {
            return None;
        }
    }
}
