//! Kubernetes' protobuf: a fixed prefix, an envelope that says the kind, and a proto2 message.
//!
//! Messages are read into and written from the same trees that JSON makes. The schema says what a field
//! is, the [`table`] which number it has and what its absence means; nothing here knows a kind.

mod decode;
mod encode;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub(super) use decode::{Envelope, object};
#[cfg(test)]
use encode::body;
pub use encode::{has_protobuf, to_protobuf, watch_frame};

use thiserror::Error;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// How deep messages may nest; what the JSON parser allows.
const MAX_DEPTH: usize = 128;

/// Numbers of the fields in the envelope and in the messages that are values of their own.
mod number {
    pub(super) const TYPE_META: u32 = 1;
    pub(super) const RAW: u32 = 2;
    pub(super) const CONTENT_ENCODING: u32 = 3;
    pub(super) const CONTENT_TYPE: u32 = 4;
    /// In TypeMeta.
    pub(super) const API_VERSION: u32 = 1;
    /// In TypeMeta.
    pub(super) const KIND: u32 = 2;
    /// The text of a Quantity, the items of a list in a message.
    pub(super) const ONLY: u32 = 1;
    /// In entries of maps.
    pub(super) const KEY: u32 = 1;
    /// In entries of maps.
    pub(super) const VALUE: u32 = 2;
    /// In times.
    pub(super) const SECONDS: u32 = 1;
    /// In times.
    pub(super) const NANOS: u32 = 2;
    /// In IntOrString: 0 for the integer, 1 for the string.
    pub(super) const WHICH: u32 = 1;
    /// In IntOrString.
    pub(super) const INTEGER: u32 = 2;
    /// In IntOrString.
    pub(super) const STRING: u32 = 3;
    /// In WatchEvent.
    pub(super) const EVENT_TYPE: u32 = 1;
    /// In WatchEvent.
    pub(super) const EVENT_OBJECT: u32 = 2;
}

/// Why bytes are no object, or an object cannot be written.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another format.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    /// The envelope holds something else.
    #[error("the content of the envelope is not protobuf")]
    Content,
    /// The bytes end within a field.
    #[error("unexpected EOF")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A field that is no field.
    #[error("proto: illegal tag or wire type")]
    Tag,
    /// A known field in a form that it cannot have.
    #[error("proto: wrong wireType for field {0}")]
    Form(String),
    /// Text that is not UTF-8.
    #[error("proto: invalid UTF-8")]
    Utf8,
    /// A time outside the years 0 to 9999.
    #[error("time is out of range")]
    Time,
    /// A free-form value that is no JSON.
    #[error("a free-form value is not JSON")]
    Json,
    /// More than [`MAX_DEPTH`] messages within each other.
    #[error("messages nest too deeply")]
    Depth,
    /// A tree that does not fit its definition.
    #[error("{0} does not fit the schema")]
    Unfit(String),
}
