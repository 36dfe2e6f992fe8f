//! The four patch formats. Each turns an object in the request's version into the patched one, which
//! then goes through the codec ([`kybern_api::codec::decode_tree`]) like any body.

pub mod apply;
mod json;
mod merge;
mod order;
mod strategic;

use kybern_api::error::{Reason, Status};
use kybern_api::schema::Node;
use serde_json::Value;

/// The format of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// By the schema's merge keys.
    Strategic,
    /// Server-side apply; see [`apply`].
    Apply,
}

/// Content types of patches, in the order error texts list them.
pub const CONTENT_TYPES: &[(&str, PatchType)] = &[
    ("application/json-patch+json", PatchType::Json),
    ("application/merge-patch+json", PatchType::Merge),
    ("application/strategic-merge-patch+json", PatchType::Strategic),
    ("application/apply-patch+yaml", PatchType::Apply),
];

impl PatchType {
    /// Reads a content type; parameters after `;` do not count.
    ///
    /// # Errors
    /// 415 for anything that is no patch, or a strategic merge of a custom resource (`typed` false).
    pub fn from_content_type(content_type: &str, typed: bool) -> Result<Self, Status> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let allowed = || CONTENT_TYPES.iter().filter(|(_, t)| typed || *t != Self::Strategic);
        allowed().find(|(m, _)| *m == media).map(|(_, t)| *t).ok_or_else(|| {
            let list: Vec<&str> = allowed().map(|(m, _)| *m).collect();
            let text = format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                list.join(", ")
            );
            Status::new(Reason::UnsupportedMediaType, text)
        })
    }
}

/// Applies a JSON, merge or strategic merge patch to `current`, a complete object of the request's
/// version ([`kybern_api::codec::served_tree`]); `node` is that version's schema.
///
/// # Errors
/// 400 for a malformed patch, 413 for too large a one, 422 for one that does not fit the object.
pub fn apply_patch(kind: PatchType, current: Value, patch: &[u8], node: &Node) -> Result<Value, Status> {
    match kind {
        PatchType::Json => json::patch(current, patch),
        PatchType::Merge => Ok(merge::patch(current, parse(patch)?)),
        PatchType::Strategic => strategic::patch(current, parse(patch)?, node),
        PatchType::Apply => Err(Status::internal("server-side apply has its own entry, patch::apply::apply")),
    }
}

fn parse(patch: &[u8]) -> Result<Value, Status> {
    let value: Value =
        serde_json::from_slice(patch).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    if value.is_object() { Ok(value) } else { Err(Status::bad_request("error decoding patch: it is no object")) }
}

#[cfg(test)]
mod tests;
