//! Messages that begin with a channel number: `v5.channel.k8s.io` and its forebears.

use crate::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

/// The channel whose messages name a channel that is closed (v5).
const CLOSE: u8 = 255;

/// The channel subprotocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subprotocol {
    /// `v5.channel.k8s.io`: binary, with half-close.
    V5,
    /// `v4.channel.k8s.io`: binary, the final status as JSON.
    V4,
    /// `v4.base64.channel.k8s.io`: the same in base64 text.
    V4Base64,
    /// `channel.k8s.io`: binary, the final status as plain text.
    V1,
    /// `base64.channel.k8s.io`: the same in base64 text.
    V1Base64,
}

/// Names, the most capable first.
const NAMES: &[(&str, Subprotocol)] = &[
    ("v5.channel.k8s.io", Subprotocol::V5),
    ("v4.channel.k8s.io", Subprotocol::V4),
    ("v4.base64.channel.k8s.io", Subprotocol::V4Base64),
    ("channel.k8s.io", Subprotocol::V1),
    ("base64.channel.k8s.io", Subprotocol::V1Base64),
];

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Data(u8, Bytes),
    End(u8),
    /// The peer closes the connection.
    Close,
    /// Nothing for the channels (ping, pong).
    Nothing,
}

impl Subprotocol {
    /// By name.
    pub fn by_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(n, _)| *n == name).map(|(_, p)| *p)
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, p)| *p == self).map_or("", |(n, _)| n)
    }
    /// Is the final status plain text instead of JSON?
    pub fn plain_status(self) -> bool {
        matches!(self, Self::V1 | Self::V1Base64)
    }

    fn is_base64(self) -> bool {
        matches!(self, Self::V4Base64 | Self::V1Base64)
    }

    pub(crate) fn data(self, channel: u8, bytes: &[u8]) -> Message {
        if self.is_base64() {
            let mut text = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
            text.push((b'0' + channel) as char);
            STANDARD.encode_string(bytes, &mut text);
            return Message::Text(text.into());
        }
        let mut message = Vec::with_capacity(1 + bytes.len());
        message.push(channel);
        message.extend_from_slice(bytes);
        Message::Binary(message.into())
    }
    /// The message that half-closes a channel, where the protocol has one.
    pub(crate) fn end(self, channel: u8) -> Option<Message> {
        (self == Self::V5).then(|| Message::Binary(Bytes::copy_from_slice(&[CLOSE, channel])))
    }

    pub(crate) fn parse(self, message: Message) -> Result<Said, Error> {
        let payload: Bytes = match message {
            Message::Binary(b) => b,
            Message::Text(t) => t.into(),
            Message::Close(_) => return Ok(Said::Close),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(Said::Nothing),
        };
        let Some(&first) = payload.first() else { return Ok(Said::Nothing) };
        let body = payload.slice(1..);
        if self.is_base64() {
            let channel = first.checked_sub(b'0').filter(|c| *c < 10).ok_or(Error::Malformed("channel digit"))?;
            let bytes = STANDARD.decode(&body).map_err(|_| Error::Malformed("base64"))?;
            return Ok(Said::Data(channel, bytes.into()));
        }
        if self == Self::V5 && first == CLOSE {
            return match body[..] {
                [channel] => Ok(Said::End(channel)),
                _ => Err(Error::Malformed("close message")),
            };
        }
        Ok(Said::Data(first, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(protocol: Subprotocol, message: Message, expected: Option<Said>) {
        assert_eq!(protocol.parse(message.clone()).ok(), expected, "{protocol:?} {message:?}");
    }

    #[test]
    fn messages_mean_what_kubernetes_says() {
        let data = |c, b: &'static str| Some(Said::Data(c, Bytes::from(b)));
        check(Subprotocol::V5, Message::binary(&b"\x00ls\n"[..]), data(0, "ls\n"));
        check(Subprotocol::V5, Message::binary(&b"\xff\x00"[..]), Some(Said::End(0)));
        check(Subprotocol::V5, Message::binary(&b"\xff"[..]), None);
        check(Subprotocol::V5, Message::binary(&b"\xff\x00\x01"[..]), None);
        check(Subprotocol::V5, Message::binary(&b""[..]), Some(Said::Nothing));
        check(Subprotocol::V4, Message::binary(&b"\xff\x00"[..]), data(255, "\0"));
        check(Subprotocol::V4, Message::binary(&b"\x01"[..]), data(1, ""));
        check(Subprotocol::V4Base64, Message::text("0bHMK"), data(0, "ls\n"));
        check(Subprotocol::V4Base64, Message::text("0b HMK"), None);
        check(Subprotocol::V4Base64, Message::text("abHMK"), None);
        check(Subprotocol::V1Base64, Message::text("4"), data(4, ""));
    }

    #[test]
    fn what_one_end_writes_the_other_reads() {
        for (name, p) in NAMES {
            assert_eq!(Subprotocol::by_name(name), Some(*p));
            assert_eq!(p.name(), *name);
            assert_eq!(p.parse(p.data(2, b"oops")).ok(), Some(Said::Data(2, Bytes::from("oops"))), "{name}");
            if let Some(end) = p.end(1) {
                assert_eq!(p.parse(end).ok(), Some(Said::End(1)));
            }
        }
        assert_eq!(Subprotocol::V4.end(0), None);
    }
}
