//! JSON patch, RFC 6902, within limits: a small patch must not build a huge object.

use json_patch::PatchOperation;
use kybern_api::error::{Reason, Status};
use serde_json::Value;

/// Operations a patch may have.
const MAX_OPERATIONS: usize = 10_000;
/// Bytes that all copy operations of a patch may add: the size of the largest body.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies the patch.
pub(super) fn patch(mut tree: Value, patch: &[u8]) -> Result<Value, Status> {
    let operations: Vec<PatchOperation> =
        serde_json::from_slice(patch).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    if operations.len() > MAX_OPERATIONS {
        let text =
            format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}", operations.len());
        return Err(Status::new(Reason::RequestEntityTooLarge, text));
    }
    let mut copied = 0;
    for operation in &operations {
        if let PatchOperation::Copy(copy) = operation {
            copied += copy.from.resolve(&tree).map_or(0, size);
            if copied > MAX_COPIED {
                return Err(unprocessable());
            }
        }
        json_patch::patch(&mut tree, std::slice::from_ref(operation)).map_err(|_| unprocessable())?;
    }
    Ok(tree)
}

/// A failing test or a missing path.
fn unprocessable() -> Status {
    Status::new(Reason::Invalid, "the server rejected our request due to an error in our request")
}

/// About the bytes of a value in JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.iter().map(|(k, v)| k.len() + 4 + size(v)).sum::<usize>() + 2,
        Value::Array(items) => items.iter().map(|v| size(v) + 1).sum::<usize>() + 2,
        Value::String(text) => text.len() + 2,
        _ => 8,
    }
}
