//! Upgrade requests: which framing both ends speak, and the headers that say so.

use crate::Error;
use crate::websocket::channels::Subprotocol;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Names the version of the streams inside SPDY: the client's choices, the server's pick.
pub const STREAM_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// The versions a server would have accepted, in its refusal.
pub const ACCEPTED_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
/// Remote command with the final status as JSON.
pub const REMOTE_COMMAND_V4: &str = "v4.channel.k8s.io";
/// Port-forward over SPDY.
pub const PORT_FORWARD: &str = "portforward.k8s.io";

const SPDY: &str = "SPDY/3.1";
const SPDY_PORT_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

/// How the streams travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// SPDY/3.1 streams directly on the transport.
    Spdy,
    /// SPDY/3.1 inside WebSocket binary messages.
    SpdyInWebSocket,
    /// WebSocket messages that begin with a channel number.
    Channels(Subprotocol),
}

/// An upgrade request that we accept.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// How the streams will travel.
    pub framing: Framing,
    /// Headers of the 101 answer.
    pub headers: HeaderMap,
}

/// Picks the framing of a remote command (exec, attach) from a request's headers.
///
/// # Errors
/// [`Error::Negotiation`] with a text for the client.
pub fn remote_command(request: &HeaderMap) -> Result<Accepted, Error> {
    if is_websocket(request) {
        let offered: Vec<&str> = tokens(request, &SEC_WEBSOCKET_PROTOCOL).collect();
        // A client that names none gets the oldest, as always.
        let chosen = if offered.is_empty() {
            Some(Subprotocol::V1)
        } else {
            offered.iter().find_map(|n| Subprotocol::by_name(n))
        };
        let chosen = chosen.ok_or_else(|| unsupported(&offered, "v5.channel.k8s.io, v4.channel.k8s.io"))?;
        let named = (!offered.is_empty()).then_some(chosen.name());
        return Ok(Accepted { framing: Framing::Channels(chosen), headers: websocket_answer(request, named)? });
    }
    Ok(Accepted { framing: Framing::Spdy, headers: spdy_answer(request, REMOTE_COMMAND_V4)? })
}

/// Picks the framing of a port-forward from a request's headers.
///
/// # Errors
/// [`Error::Negotiation`] with a text for the client.
pub fn port_forward(request: &HeaderMap) -> Result<Accepted, Error> {
    if is_websocket(request) {
        let offered: Vec<&str> = tokens(request, &SEC_WEBSOCKET_PROTOCOL).collect();
        if !offered.contains(&SPDY_PORT_FORWARD) {
            return Err(unsupported(&offered, SPDY_PORT_FORWARD));
        }
        return Ok(Accepted {
            framing: Framing::SpdyInWebSocket,
            headers: websocket_answer(request, Some(SPDY_PORT_FORWARD))?,
        });
    }
    Ok(Accepted { framing: Framing::Spdy, headers: spdy_answer(request, PORT_FORWARD)? })
}

/// Headers of our own SPDY upgrade request.
pub fn spdy_request(version: &'static str) -> HeaderMap {
    let mut headers = upgrade_to(SPDY);
    headers.insert(STREAM_VERSION, HeaderValue::from_static(version));
    headers
}

/// Checks the answer to [`spdy_request`].
///
/// # Errors
/// [`Error::Negotiation`] when the server did not switch to what was asked for.
pub fn check_spdy_answer(status: StatusCode, headers: &HeaderMap, version: &str) -> Result<(), Error> {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::Negotiation(format!("upgrade refused with status {status}")));
    }
    if !has_token(headers, &UPGRADE, SPDY) || !has_token(headers, &STREAM_VERSION, version) {
        return Err(Error::Negotiation("the server switched to another protocol".into()));
    }
    Ok(())
}

fn unsupported(offered: &[&str], ours: &str) -> Error {
    Error::Negotiation(format!("unable to upgrade: unsupported protocols {offered:?}, accepted are {ours}"))
}

fn is_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket")
}

/// The comma-separated values of all headers of a name.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|t| !t.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|t| t.eq_ignore_ascii_case(token))
}

fn upgrade_to(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    headers
}

fn spdy_answer(request: &HeaderMap, version: &'static str) -> Result<HeaderMap, Error> {
    if !has_token(request, &CONNECTION, "upgrade") || !has_token(request, &UPGRADE, SPDY) {
        return Err(Error::Negotiation("Upgrade request required".into()));
    }
    let offered: Vec<&str> = tokens(request, &STREAM_VERSION).collect();
    if !offered.contains(&version) {
        return Err(unsupported(&offered, version));
    }
    let mut headers = upgrade_to(SPDY);
    headers.insert(STREAM_VERSION, HeaderValue::from_static(version));
    Ok(headers)
}

fn websocket_answer(request: &HeaderMap, subprotocol: Option<&'static str>) -> Result<HeaderMap, Error> {
    if request.get(SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
        return Err(Error::Negotiation("unable to upgrade: WebSocket version 13 required".into()));
    }
    let key = request
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| Error::Negotiation("unable to upgrade: no Sec-WebSocket-Key".into()))?;
    let mut headers = upgrade_to("websocket");
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.map_err(|_| Error::Negotiation("unable to upgrade: bad key".into()))?);
    if let Some(name) = subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        let pairs = text.lines().filter_map(|l| l.trim().split_once(": "));
        pairs.filter_map(|(k, v)| Some((HeaderName::try_from(k).ok()?, HeaderValue::try_from(v).ok()?))).collect()
    }

    const WEBSOCKET: &str = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn what_kubectl_offers_is_answered() {
        let ws = |p: &str| format!("{WEBSOCKET}\nSec-WebSocket-Protocol: {p}");
        let spdy = "Connection: Upgrade\nUpgrade: SPDY/3.1\nX-Stream-Protocol-Version: ";
        let exec: &[(String, Option<Framing>)] = &[
            (ws("v5.channel.k8s.io"), Some(Framing::Channels(Subprotocol::V5))),
            (ws("nonsense, v4.channel.k8s.io"), Some(Framing::Channels(Subprotocol::V4))),
            (ws("nonsense"), None),
            (WEBSOCKET.into(), Some(Framing::Channels(Subprotocol::V1))),
            (format!("{spdy}v5.channel.k8s.io\nX-Stream-Protocol-Version: v4.channel.k8s.io"), Some(Framing::Spdy)),
            (format!("{spdy}v5.channel.k8s.io, v4.channel.k8s.io, channel.k8s.io"), Some(Framing::Spdy)),
            (format!("{spdy}v9"), None),
            ("Accept: */*".into(), None),
            ("Connection: Upgrade\nUpgrade: websocket".into(), None),
        ];
        for (request, expected) in exec {
            assert_eq!(remote_command(&headers(request)).ok().map(|a| a.framing), *expected, "{request}");
        }
        let forward: &[(String, Option<Framing>)] = &[
            (ws("SPDY/3.1+portforward.k8s.io"), Some(Framing::SpdyInWebSocket)),
            (ws("v4.channel.k8s.io"), None),
            (format!("{spdy}portforward.k8s.io"), Some(Framing::Spdy)),
            (format!("{spdy}v4.channel.k8s.io"), None),
        ];
        for (request, expected) in forward {
            assert_eq!(port_forward(&headers(request)).ok().map(|a| a.framing), *expected, "{request}");
        }
    }

    /// The key and its answer are the example of RFC 6455, section 1.3.
    #[test]
    fn the_answer_proves_that_the_key_was_read() {
        let a = remote_command(&headers(WEBSOCKET)).expect("accepted");
        assert_eq!(a.headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!a.headers.contains_key(SEC_WEBSOCKET_PROTOCOL));
    }

    #[test]
    fn our_spdy_request_is_one_that_we_accept() {
        let answer = remote_command(&spdy_request(REMOTE_COMMAND_V4)).expect("accepted").headers;
        assert!(check_spdy_answer(StatusCode::SWITCHING_PROTOCOLS, &answer, REMOTE_COMMAND_V4).is_ok());
        assert!(check_spdy_answer(StatusCode::OK, &answer, REMOTE_COMMAND_V4).is_err());
        assert!(check_spdy_answer(StatusCode::SWITCHING_PROTOCOLS, &answer, PORT_FORWARD).is_err());
    }
}
