//! Names: given, or generated from a prefix.

use crate::registry::metadata;
use kybern_api::error::{Cause, Status};
use kybern_api::kind::KindDef;
use kybern_api::seam::Ids;
use serde_json::Value;

/// A generated name is tried so many times.
pub const TRIES: usize = 8;
/// A prefix is cut to so many bytes, so that prefix and suffix fit a label.
const PREFIX_MAX: usize = 58;

/// Where a new object's name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The client chose it.
    Given,
    /// It is made of metadata.generateName: a clash is answered with another.
    Generated,
}

/// Sees to it that a new object has a name.
///
/// # Errors
/// 422 when there is neither a name nor a prefix.
pub fn settle(def: &KindDef, tree: &mut Value, ids: &dyn Ids) -> Result<Origin, Status> {
    if !metadata::text(tree, "name").is_empty() {
        return Ok(Origin::Given);
    }
    if metadata::text(tree, "generateName").is_empty() {
        let cause = Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value: name or generateName is required".into(),
            field: "metadata.name".into(),
        };
        return Err(Status::invalid(&def.group, &def.kind, "", vec![cause]));
    }
    generate(tree, ids);
    Ok(Origin::Generated)
}

/// Makes another name of the prefix.
pub fn generate(tree: &mut Value, ids: &dyn Ids) {
    let prefix = metadata::text(tree, "generateName");
    let cut = (0..=PREFIX_MAX.min(prefix.len())).rev().find(|i| prefix.is_char_boundary(*i)).unwrap_or(0);
    let name = format!("{}{}", &prefix[..cut], ids.suffix());
    metadata::of_mut(tree).insert("name".into(), name.into());
}

/// 409 after all tries clashed.
pub fn exhausted(def: &KindDef, name: &str) -> Status {
    let mut s = Status::already_exists(&def.group, &def.plural, name);
    s.message += ", the server was not able to generate a unique name for the object";
    s
}
