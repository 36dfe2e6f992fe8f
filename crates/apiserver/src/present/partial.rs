//! PartialObjectMetadata: an object's metadata and nothing else.

use bytes::Bytes;
use kybern_api::error::Status;
use kybern_api::object::Object;
use serde::Deserialize;
use serde_json::value::RawValue;

const OPEN: &str = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;

#[derive(Deserialize)]
struct Narrow<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// The object as PartialObjectMetadata: its metadata's JSON as it is stored.
///
/// # Errors
/// 500 when the stored bytes are no JSON.
pub fn partial(object: &Object) -> Result<Bytes, Status> {
    let narrow: Narrow<'_> =
        serde_json::from_slice(&object.bytes).map_err(|e| Status::internal(format!("stored object: {e}")))?;
    Ok(Bytes::from([OPEN, narrow.metadata.get(), "}"].concat()))
}
