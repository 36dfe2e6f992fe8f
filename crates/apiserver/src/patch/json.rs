//! JSON patch, RFC 6902, within limits: a small patch must not build a huge object.

use json_patch::PatchOperation;
use kybern_api::codec::{MAX_DEPTH, depth};
use kybern_api::error::{Reason, Status};
use serde_json::Value;

/// Operations a patch may have.
const MAX_OPERATIONS: usize = 10_000;
/// Bytes that all copy operations of a patch may add: the size of the largest body.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Levels a tree may have while a patch works on it: few enough to walk and to drop on any stack.
const MAX_LEVELS: usize = 4 * MAX_DEPTH;

/// How deep a tree may have become, at most. Each operation adds what its path and value say; only when
/// that exceeds the limit is the tree measured.
struct Levels(usize);

impl Levels {
    /// Notes an operation that is to be carried out.
    fn add(&mut self, operation: &PatchOperation) {
        let value = match operation {
            PatchOperation::Add(add) => depth(&add.value),
            PatchOperation::Replace(replace) => depth(&replace.value),
            PatchOperation::Move(_) | PatchOperation::Copy(_) => 0,
            PatchOperation::Remove(_) | PatchOperation::Test(_) => return,
        };
        self.0 += operation.path().count() + value;
    }

    /// Is the tree still shallow enough?
    fn within(&mut self, tree: &Value) -> bool {
        if self.0 <= MAX_LEVELS {
            return true;
        }
        self.0 = depth(tree);
        // Half of it, or else every further operation would measure.
        self.0 <= MAX_LEVELS / 2
    }
}

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
    let mut levels = Levels(depth(&tree));
    for operation in &operations {
        if let PatchOperation::Copy(copy) = operation {
            copied += copy.from.resolve(&tree).map_or(0, size);
            if copied > MAX_COPIED {
                return Err(unprocessable());
            }
        }
        levels.add(operation);
        json_patch::patch(&mut tree, std::slice::from_ref(operation)).map_err(|_| unprocessable())?;
        if !levels.within(&tree) {
            return Err(unprocessable());
        }
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
