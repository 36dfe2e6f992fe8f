//! Bytes to trees and back, by schema.
//!
//! A tree inside the server is a JSON object in the stored version without `kind` and `apiVersion`,
//! pruned, type-checked, canonical and defaulted. [`decode_body`] makes one from a request body,
//! [`decode_tree`] from a patched tree, [`decode_stored`] from stored bytes; [`encode`] turns it into
//! the bytes that are stored, listed and watched. Defaults run here and nowhere else.

mod canonical;
mod check;
mod decode;
mod encode;
mod head;
mod narrow;
mod protobuf;
#[cfg(test)]
mod tests;
mod write;

pub use check::{FieldValidation, Problem};
pub use decode::{
    BodyType, Decoded, Expected, MAX_DEPTH, decode_body, decode_config, decode_definition, decode_stored, decode_tree,
    depth,
};
pub use encode::{Encoded, encode, list_open, render, served_tree, stamp, to_yaml};
pub use head::{HeadReader, head};
pub use protobuf::{MEDIA_TYPE as PROTOBUF, has_protobuf, to_protobuf, watch_frame};
