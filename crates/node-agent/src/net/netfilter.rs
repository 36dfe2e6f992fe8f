//! Netlink to the kernel's netfilter (connection tracking, nftables): sockets, messages, attributes.

use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Types of answers that belong to no subsystem.
pub(crate) const ERROR: u16 = 2;
pub(crate) const DONE: u16 = 3;
/// Flags of requests.
pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const DUMP: u16 = 0x300;
/// Flag of an attribute that holds others.
pub(crate) const NESTED: u16 = 0x8000;

/// That one, and the one of byte order.
const FLAGS: u16 = 0xc000;
const HEADER: usize = 16;
/// Netlink's header and netfilter's.
const PREFIX: usize = HEADER + 4;

/// A netlink socket in the network namespace that it was opened in.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// A message of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    /// The socket whose request it comes from: by the kernel's habit the number of the process that has it.
    pub(crate) port: u32,
    /// Everything after netlink's header.
    pub(crate) body: &'a [u8],
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Socket {
    /// For requests and their answers.
    pub(crate) fn open() -> io::Result<Self> {
        Self::bound(0, SockFlag::SOCK_CLOEXEC)
    }

    /// For the news of a group (by its bit), with room for `bytes` of them; it never blocks.
    pub(crate) fn listening(group: u32, bytes: usize) -> io::Result<Self> {
        let socket = Self::bound(group, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        setsockopt(&socket.0, RcvBufForce, &bytes)?;
        Ok(socket)
    }

    fn bound(groups: u32, flags: SockFlag) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self(fd))
    }

    /// Sends one request about IPv4 with these attributes.
    pub(crate) fn send(&self, kind: u16, flags: u16, attributes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(PREFIX + attributes.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([AddressFamily::Inet as u8, 0, 0, 0]);
        message.extend(attributes);
        sendto(self.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    /// The next messages.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let n = recv(self.as_raw_fd(), buffer, MsgFlags::empty())?;
        Ok(&buffer[..n])
    }
}

impl<'a> Message<'a> {
    /// The attributes.
    pub(crate) fn attributes(&self) -> &'a [u8] {
        self.body.get(PREFIX - HEADER..).unwrap_or_default()
    }
}

/// The messages in what was received.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (message, rest) = first(bytes)?;
        bytes = rest;
        Some(message)
    })
}

fn first(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let port = u32::from_ne_bytes(*bytes.get(12..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    Some((Message { kind, port, body }, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// What an answer of type [`ERROR`] says; number 0 acknowledges.
pub(crate) fn acknowledged(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|b| i32::from_ne_bytes(*b)) {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(-number)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// An attribute, as it is sent.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut out = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// The value of the first attribute of this type.
pub(crate) fn find(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let found = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & !FLAGS;
        let value = bytes.get(4..length)?;
        if found == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_are_told_apart_and_half_ones_left_out() {
        let mut bytes = Vec::new();
        for (kind, port, value) in [(7u16, 1u32, &b"ab"[..]), (8, 2, b"c")] {
            let attribute = attribute(3 | NESTED, value);
            bytes.extend(u32::try_from(PREFIX + attribute.len()).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 6]);
            bytes.extend(port.to_ne_bytes());
            bytes.extend([2, 0, 0, 0]);
            bytes.extend(attribute);
        }
        let read = |bytes| messages(bytes).map(|m| (m.kind, m.port, find(m.attributes(), 3))).collect::<Vec<_>>();
        assert_eq!(read(&bytes), [(7, 1, Some(&b"ab"[..])), (8, 2, Some(&b"c"[..]))]);
        assert_eq!(read(&bytes[..bytes.len() - 1]).len(), 1);
    }
}
