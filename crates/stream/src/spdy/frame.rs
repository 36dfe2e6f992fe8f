//! Frames and their bytes.

use super::headers::{Compressor, Decompressor, Headers};
use crate::Error;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec;

/// Most bytes of a control frame; header blocks are the only long ones.
pub const MAX_CONTROL: usize = 64 * 1024;
/// Most bytes of one [`Frame::Data`], whatever the frame on the wire has: longer ones come in pieces.
pub const MAX_DATA: usize = 64 * 1024;
/// SETTINGS entry: the window with which streams begin.
pub const INITIAL_WINDOW_SIZE: u32 = 7;

const VERSION: u16 = 3;
const HEAD: usize = 8;
const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
const ID_MASK: u32 = 0x7fff_ffff;

mod kind {
    pub(super) const SYN_STREAM: u16 = 1;
    pub(super) const SYN_REPLY: u16 = 2;
    pub(super) const RST_STREAM: u16 = 3;
    pub(super) const SETTINGS: u16 = 4;
    pub(super) const PING: u16 = 6;
    pub(super) const GOAWAY: u16 = 7;
    pub(super) const HEADERS: u16 = 8;
    pub(super) const WINDOW_UPDATE: u16 = 9;
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// Odd from clients, even from servers, growing.
        id: u32,
        /// The opener sends nothing on it.
        fin: bool,
        /// The other side may send nothing on it.
        unidirectional: bool,
        /// What the stream is.
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// The stream.
        id: u32,
        /// The accepter sends nothing on it.
        fin: bool,
        /// Headers of the answer.
        headers: Headers,
    },
    /// Ends a stream both ways at once.
    RstStream {
        /// The stream.
        id: u32,
        /// Why ([`super::status`]).
        status: u32,
    },
    /// Settings as (id, value).
    Settings(Vec<(u32, u32)>),
    /// To be sent back by the side that did not make it up.
    Ping(u32),
    /// No new streams any more.
    GoAway {
        /// Last stream that was looked at.
        last: u32,
        /// 0: in order.
        status: u32,
    },
    /// Further headers of a stream.
    Headers {
        /// The stream.
        id: u32,
        /// Nothing more from this side.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// The peer may send more.
    WindowUpdate {
        /// The stream; 0: the whole connection.
        id: u32,
        /// Bytes more.
        delta: u32,
    },
    /// Bytes of a stream.
    Data {
        /// The stream.
        id: u32,
        /// Nothing more from this side.
        fin: bool,
        /// The bytes, at most [`MAX_DATA`].
        bytes: Bytes,
    },
}

/// Bytes to frames.
#[derive(Default)]
pub struct Decoder {
    headers: Decompressor,
    /// The data frame whose payload is still arriving.
    data: Option<OpenData>,
}

struct OpenData {
    id: u32,
    fin: bool,
    left: usize,
}

impl codec::Decoder for Decoder {
    type Item = Frame;
    type Error = Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Error> {
        loop {
            if self.data.is_some() {
                return Ok(self.data_piece(buffer));
            }
            let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
            let (word, flags) = (u32::from_be_bytes([head[0], head[1], head[2], head[3]]), head[4]);
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            if word & !ID_MASK == 0 {
                self.data = Some(OpenData { id: word, fin: flags & FLAG_FIN != 0, left: length });
                buffer.advance(HEAD);
                continue;
            }
            if (word >> 16) as u16 & 0x7fff != VERSION {
                return Err(Error::Malformed("not SPDY/3"));
            }
            if length > MAX_CONTROL {
                return Err(Error::Limit("control frame"));
            }
            if buffer.len() < HEAD + length {
                buffer.reserve(HEAD + length - buffer.len());
                return Ok(None);
            }
            buffer.advance(HEAD);
            let payload = buffer.split_to(length);
            // Frames of unknown kinds are skipped, so that peers may know more than we do.
            if let Some(frame) = self.control((word & 0xffff) as u16, flags, &payload)? {
                return Ok(Some(frame));
            }
        }
    }
}

impl Decoder {
    fn data_piece(&mut self, buffer: &mut BytesMut) -> Option<Frame> {
        let open = self.data.as_mut()?;
        if buffer.is_empty() && open.left > 0 {
            return None;
        }
        let bytes = buffer.split_to(open.left.min(buffer.len()).min(MAX_DATA)).freeze();
        open.left -= bytes.len();
        let frame = Frame::Data { id: open.id, fin: open.fin && open.left == 0, bytes };
        if open.left == 0 {
            self.data = None;
        }
        Some(frame)
    }

    fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> Result<Option<Frame>, Error> {
        let fin = flags & FLAG_FIN != 0;
        Ok(Some(match kind {
            kind::SYN_STREAM => {
                let (fixed, block) = payload.split_first_chunk::<10>().ok_or(Error::Malformed("SYN_STREAM"))?;
                let (id, unidirectional) = (u32_at(fixed, 0)? & ID_MASK, flags & FLAG_UNIDIRECTIONAL != 0);
                Frame::SynStream { id, fin, unidirectional, headers: self.headers.decompress(block)? }
            }
            kind::SYN_REPLY | kind::HEADERS => {
                let (fixed, block) = payload.split_first_chunk::<4>().ok_or(Error::Malformed("SYN_REPLY"))?;
                let (id, headers) = (u32::from_be_bytes(*fixed) & ID_MASK, self.headers.decompress(block)?);
                if kind == kind::SYN_REPLY {
                    Frame::SynReply { id, fin, headers }
                } else {
                    Frame::Headers { id, fin, headers }
                }
            }
            kind::RST_STREAM => {
                let (id, status) = pair(payload, "RST_STREAM")?;
                Frame::RstStream { id, status }
            }
            kind::GOAWAY => {
                let (last, status) = pair(payload, "GOAWAY")?;
                Frame::GoAway { last, status }
            }
            kind::WINDOW_UPDATE => {
                let (id, delta) = pair(payload, "WINDOW_UPDATE")?;
                Frame::WindowUpdate { id, delta: delta & ID_MASK }
            }
            kind::PING => Frame::Ping(u32::from_be_bytes(payload.try_into().map_err(|_| Error::Malformed("PING"))?)),
            kind::SETTINGS => settings(payload)?,
            _ => return Ok(None),
        }))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let b = bytes.get(at..).and_then(|b| b.first_chunk::<4>()).ok_or(Error::Malformed("frame ends early"))?;
    Ok(u32::from_be_bytes(*b))
}

fn pair(payload: &[u8], what: &'static str) -> Result<(u32, u32), Error> {
    if payload.len() != 8 {
        return Err(Error::Malformed(what));
    }
    Ok((u32_at(payload, 0)? & ID_MASK, u32_at(payload, 4)?))
}

fn settings(payload: &[u8]) -> Result<Frame, Error> {
    let (count, entries) = payload.split_first_chunk::<4>().ok_or(Error::Malformed("SETTINGS"))?;
    if entries.len() as u64 != u64::from(u32::from_be_bytes(*count)) * 8 {
        return Err(Error::Malformed("SETTINGS"));
    }
    // The first byte of an entry holds persistence flags, which concern no one-off connection.
    entries
        .chunks_exact(8)
        .map(|e| Ok((u32_at(e, 0)? & 0x00ff_ffff, u32_at(e, 4)?)))
        .collect::<Result<_, _>>()
        .map(Frame::Settings)
}

/// Frames to bytes.
pub struct Encoder {
    headers: Compressor,
}

impl Encoder {
    /// At the start of a connection.
    ///
    /// # Errors
    /// When the zlib backend refuses the dictionary.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { headers: Compressor::new()? })
    }
}

impl codec::Encoder<Frame> for Encoder {
    type Error = Error;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), Error> {
        match frame {
            Frame::SynStream { id, fin, unidirectional, headers } => {
                let block = self.headers.compress(&headers)?;
                let flags = fin_flag(fin) | if unidirectional { FLAG_UNIDIRECTIONAL } else { 0 };
                control_head(out, kind::SYN_STREAM, flags, 10 + block.len())?;
                out.put_u32(id);
                out.put_u32(0); // associated stream: none
                out.put_u16(0); // highest priority, no credential slot
                out.put_slice(&block);
            }
            Frame::SynReply { id, fin, headers } => self.header_frame(out, kind::SYN_REPLY, id, fin, &headers)?,
            Frame::Headers { id, fin, headers } => self.header_frame(out, kind::HEADERS, id, fin, &headers)?,
            Frame::RstStream { id, status } => put_pair(out, kind::RST_STREAM, id, status)?,
            Frame::GoAway { last, status } => put_pair(out, kind::GOAWAY, last, status)?,
            Frame::WindowUpdate { id, delta } => put_pair(out, kind::WINDOW_UPDATE, id, delta)?,
            Frame::Ping(id) => {
                control_head(out, kind::PING, 0, 4)?;
                out.put_u32(id);
            }
            Frame::Settings(entries) => {
                control_head(out, kind::SETTINGS, 0, 4 + entries.len() * 8)?;
                out.put_u32(entries.len() as u32);
                for (id, value) in entries {
                    out.put_u32(id & 0x00ff_ffff);
                    out.put_u32(value);
                }
            }
            Frame::Data { id, fin, bytes } => {
                if bytes.len() > MAX_DATA {
                    return Err(Error::Limit("data frame"));
                }
                out.reserve(HEAD + bytes.len());
                out.put_u32(id & ID_MASK);
                put_flags_and_length(out, fin_flag(fin), bytes.len());
                out.put_slice(&bytes);
            }
        }
        Ok(())
    }
}

impl Encoder {
    fn header_frame(
        &mut self,
        out: &mut BytesMut,
        kind: u16,
        id: u32,
        fin: bool,
        headers: &Headers,
    ) -> Result<(), Error> {
        let block = self.headers.compress(headers)?;
        control_head(out, kind, fin_flag(fin), 4 + block.len())?;
        out.put_u32(id);
        out.put_slice(&block);
        Ok(())
    }
}

fn fin_flag(fin: bool) -> u8 {
    if fin { FLAG_FIN } else { 0 }
}

fn put_pair(out: &mut BytesMut, kind: u16, first: u32, second: u32) -> Result<(), Error> {
    control_head(out, kind, 0, 8)?;
    out.put_u32(first);
    out.put_u32(second);
    Ok(())
}

fn control_head(out: &mut BytesMut, kind: u16, flags: u8, length: usize) -> Result<(), Error> {
    if length > MAX_CONTROL {
        return Err(Error::Limit("control frame"));
    }
    out.reserve(HEAD + length);
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_flags_and_length(out, flags, length);
    Ok(())
}

fn put_flags_and_length(out: &mut BytesMut, flags: u8, length: usize) {
    out.put_u32(u32::from(flags) << 24 | length as u32);
}
