//! WebSocket framings: channels in messages, and a byte stream in binary messages.
//!
//! Frame parsing is tokio-tungstenite's; this module bounds it and gives messages their meaning.

pub mod channels;
mod tunnel;

pub use tunnel::Tunnel;

use crate::{Io, Role};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{self, CloseFrame, WebSocketConfig};

/// Most bytes of one message. Clients send what they read from a terminal or a file, 32 KiB at once.
const MAX_MESSAGE: usize = 4 << 20;

/// The orderly end. kubectl takes a close without a code for a failure.
pub(crate) fn farewell() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Takes over an upgraded transport as a WebSocket.
pub async fn open<T: Io>(io: T, role: Role) -> WebSocketStream<T> {
    let role = match role {
        Role::Server => protocol::Role::Server,
        Role::Client => protocol::Role::Client,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, role, Some(config)).await
}
