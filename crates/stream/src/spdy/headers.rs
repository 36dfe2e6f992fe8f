//! Name/value blocks: their layout and the zlib streams that compress them.
//!
//! One compressor and one decompressor live as long as the connection; every block continues the
//! previous one's zlib stream, so blocks must be handled in wire order and an error ends the connection.

use crate::Error;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Most bytes of a decompressed block: stops a small frame from growing into a large one.
pub const MAX_BLOCK: usize = 64 * 1024;

/// Header words that seed both zlib streams, each preceded by its length; SPDY/3 fixes them.
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// The rest of the seed, without lengths.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul \
Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,\
image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,\
sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// The zlib preset dictionary of SPDY/3.
fn dictionary() -> Vec<u8> {
    let mut d = Vec::with_capacity(1423);
    for word in WORDS {
        d.extend_from_slice(&(word.len() as u32).to_be_bytes());
        d.extend_from_slice(word.as_bytes());
    }
    d.extend_from_slice(TAIL.as_bytes());
    d
}

/// Headers of a stream, in order. Names are lower case on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// From pairs.
    pub fn new<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }
    /// The first value under `name` (any case). SPDY joins several values of a name with NUL.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, v) = self.0.iter().find(|(k, _)| k.eq_ignore_ascii_case(name))?;
        v.split('\0').next()
    }

    fn to_block(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(64);
        b.extend_from_slice(&(self.0.len() as u32).to_be_bytes());
        for (name, value) in &self.0 {
            for text in [name.to_ascii_lowercase().as_str(), value] {
                b.extend_from_slice(&(text.len() as u32).to_be_bytes());
                b.extend_from_slice(text.as_bytes());
            }
        }
        b
    }

    fn from_block(block: &[u8]) -> Result<Self, Error> {
        let mut rest = block;
        let count = take_u32(&mut rest)?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            let name = take_text(&mut rest)?;
            if name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase()) {
                return Err(Error::Malformed("header name"));
            }
            pairs.push((name, take_text(&mut rest)?));
        }
        if !rest.is_empty() {
            return Err(Error::Malformed("bytes after the header block"));
        }
        Ok(Self(pairs))
    }
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, Error> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(Error::Malformed("header block ends early"))?;
    *rest = tail;
    Ok(u32::from_be_bytes(*head))
}

fn take_text(rest: &mut &[u8]) -> Result<String, Error> {
    let len = take_u32(rest)? as usize;
    let (head, tail) = rest.split_at_checked(len).ok_or(Error::Malformed("header block ends early"))?;
    *rest = tail;
    String::from_utf8(head.to_vec()).map_err(|_| Error::Malformed("header text is not UTF-8"))
}

/// Compresses the blocks of one direction.
pub struct Compressor {
    zlib: Compress,
}

impl Compressor {
    /// At the start of a connection.
    ///
    /// # Errors
    /// When the zlib backend refuses the dictionary.
    pub fn new() -> Result<Self, Error> {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(&dictionary()).map_err(|_| Error::Malformed("zlib dictionary"))?;
        Ok(Self { zlib })
    }
    /// The compressed block, complete (flushed) but not the end of the zlib stream.
    ///
    /// # Errors
    /// When the headers exceed [`MAX_BLOCK`].
    pub fn compress(&mut self, headers: &Headers) -> Result<Vec<u8>, Error> {
        let block = headers.to_block();
        if block.len() > MAX_BLOCK {
            return Err(Error::Limit("header block"));
        }
        let (mut input, mut out) = (block.as_slice(), Vec::with_capacity(block.len() / 2 + 64));
        loop {
            let before = self.zlib.total_in();
            self.zlib
                .compress_vec(input, &mut out, FlushCompress::Sync)
                .map_err(|_| Error::Malformed("header compression"))?;
            input = &input[(self.zlib.total_in() - before) as usize..];
            // Room left over means that the flush is complete.
            if input.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(out.capacity());
        }
    }
}

/// Decompresses the blocks of one direction.
pub struct Decompressor {
    zlib: Decompress,
}

impl Default for Decompressor {
    fn default() -> Self {
        Self { zlib: Decompress::new(true) }
    }
}

impl Decompressor {
    /// The headers of the next block.
    ///
    /// # Errors
    /// When the block is no continuation of the zlib stream, is too large or is malformed.
    pub fn decompress(&mut self, input: &[u8]) -> Result<Headers, Error> {
        Headers::from_block(&self.inflate(input)?)
    }

    fn inflate(&mut self, mut input: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(1024);
        loop {
            let (read, written) = (self.zlib.total_in(), out.len());
            let mut seeded = false;
            match self.zlib.decompress_vec(input, &mut out, FlushDecompress::Sync) {
                Ok(Status::Ok | Status::BufError) => {}
                Ok(Status::StreamEnd) => return Err(Error::Malformed("header compression ended")),
                Err(e) if e.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(&dictionary()).map_err(|_| Error::Malformed("header dictionary"))?;
                    seeded = true;
                }
                Err(_) => return Err(Error::Malformed("header compression")),
            }
            let used = (self.zlib.total_in() - read) as usize;
            input = &input[used..];
            if out.len() > MAX_BLOCK {
                return Err(Error::Limit("header block"));
            }
            if out.len() == out.capacity() {
                out.reserve(out.capacity());
            } else if input.is_empty() && !seeded {
                return Ok(out);
            } else if used == 0 && out.len() == written && !seeded {
                return Err(Error::Malformed("header compression"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SPDY/3's dictionary is known by this Adler-32, which zlib writes into the stream's head.
    #[test]
    fn the_dictionary_is_the_one_every_peer_has() {
        let block = Compressor::new().and_then(|mut c| c.compress(&Headers::default())).expect("compress");
        assert_eq!(dictionary().len(), 1423);
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn blocks_continue_one_zlib_stream() {
        let (mut c, mut d) = (Compressor::new().expect("compressor"), Decompressor::default());
        let long = "x".repeat(20_000);
        let mut sizes = Vec::new();
        for i in 0..200 {
            let id = i.to_string();
            let h = Headers::new([("streamtype", "data"), ("port", "8080"), ("requestid", &id), ("pad", &long)]);
            let block = c.compress(&h).expect("compress");
            sizes.push(block.len());
            assert_eq!(d.decompress(&block).expect("decompress"), h);
        }
        assert!(sizes[100] < sizes[0], "later blocks must profit from earlier ones: {sizes:?}");
    }

    #[test]
    fn names_go_out_in_lower_case_and_are_found_in_any() {
        let mut c = Compressor::new().expect("compressor");
        let h = Headers::new([("streamType", "error")]);
        let back = Decompressor::default().decompress(&c.compress(&h).expect("compress")).expect("decompress");
        assert_eq!(back.0[0].0, "streamtype");
        assert_eq!(back.get("streamType"), Some("error"));
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&dictionary()).expect("dictionary");
        let mut out = Vec::with_capacity(100_000);
        zlib.compress_vec(&vec![b'a'; 10_000_000], &mut out, FlushCompress::Sync).expect("compress");
        assert!(out.len() < 40_000);
        assert!(matches!(Decompressor::default().decompress(&out), Err(Error::Limit(_))));
    }

    #[test]
    fn broken_blocks_are_errors() {
        let cases: &[(&str, &[u8])] = &[
            ("empty", b""),
            ("short count", &[0, 0]),
            ("count without pairs", &[0, 0, 0, 1]),
            ("huge count", &[255, 255, 255, 255]),
            ("length beyond the end", &[0, 0, 0, 1, 0, 0, 0, 9, b'a']),
            ("upper-case name", &[0, 0, 0, 1, 0, 0, 0, 1, b'A', 0, 0, 0, 0]),
            ("empty name", &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("not UTF-8", &[0, 0, 0, 1, 0, 0, 0, 1, b'a', 0, 0, 0, 1, 0xff]),
            ("bytes behind", &[0, 0, 0, 0, 7]),
        ];
        for (name, block) in cases {
            assert!(Headers::from_block(block).is_err(), "{name}");
        }
    }
}
