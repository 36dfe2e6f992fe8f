//! Managed fields: which manager set which field. Runs on every write, as one walk over what changed.
//!
//! A write other than apply gives the fields it changed to its manager and takes them from all others
//! ([`update_managers`]); server-side apply ([`crate::patch`]) builds on the same sets.
//! Entries are compared as they are, whatever version they were written in.

mod changes;
mod set;

pub use changes::{Changes, changes, item_key, owned};
pub use set::FieldSet;

use jiff::Timestamp;
use kybern_api::kind::KindDef;
use kybern_api::meta::time;
use kybern_api::schema::Node;
use serde_json::{Map, Value};

/// Update entries that an object keeps; older ones are merged into one.
const MAX_UPDATE_ENTRIES: usize = 10;
/// The manager that gets the fields of the merged entries.
const ANCIENT: &str = "ancient-changes";

/// Who writes.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// Manager name: the fieldManager parameter or the first part of the user agent.
    pub manager: &'a str,
    /// Subresource being written, or empty.
    pub subresource: &'a str,
    /// `v1`, `apps/v1`: the version of the request.
    pub api_version: &'a str,
    /// Time of the request.
    pub now: Timestamp,
}

/// How an entry came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Any other write.
    Update,
}

/// One manager's entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Manager name.
    pub manager: String,
    /// Apply or Update.
    pub operation: Operation,
    /// Version of the write.
    pub api_version: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Time of the last change, RFC 3339; may be empty.
    pub time: String,
    /// The fields.
    pub fields: FieldSet,
}

impl Entry {
    /// A new entry for this writer.
    pub fn new(writer: &Writer<'_>, operation: Operation, fields: FieldSet) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: time::time(writer.now),
            fields,
        }
    }

    /// Is it the entry that a write of this kind by `writer` goes to?
    pub fn belongs_to(&self, writer: &Writer<'_>, operation: Operation) -> bool {
        self.operation == operation
            && self.manager == writer.manager
            && self.subresource == writer.subresource
            && self.api_version == writer.api_version
    }

    fn read(value: Value) -> Option<Self> {
        let Value::Object(mut map) = value else { return None };
        let mut text = |key: &str| match map.remove(key) {
            Some(Value::String(s)) => s,
            _ => String::new(),
        };
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        let (manager, api_version) = (text("manager"), text("apiVersion"));
        let (subresource, time) = (text("subresource"), text("time"));
        if text("fieldsType") != "FieldsV1" || api_version.is_empty() {
            return None;
        }
        let fields = FieldSet::read(map.remove("fieldsV1")?)?;
        Some(Self { manager, operation, api_version, subresource, time, fields })
    }

    fn write(self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: String| {
            if !value.is_empty() {
                map.insert(key.to_owned(), Value::String(value));
            }
        };
        put("manager", self.manager);
        put("operation", if self.operation == Operation::Apply { "Apply" } else { "Update" }.to_owned());
        put("apiVersion", self.api_version);
        put("time", self.time);
        put("subresource", self.subresource);
        put("fieldsType", "FieldsV1".to_owned());
        map.insert("fieldsV1".to_owned(), self.fields.into_value());
        Value::Object(map)
    }
}

/// Top-level fields that a write never owns: status belongs to its subresource, and a write of status
/// owns nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of the object.
    Whole,
    /// All but status.
    WithoutStatus,
    /// Metadata and status.
    StatusOnly,
}

impl Scope {
    /// What writes to this subresource (empty: the resource itself) may own.
    pub fn of(def: &KindDef, subresource: &str) -> Self {
        match subresource {
            "status" => Self::StatusOnly,
            "" if def.has_status() => Self::WithoutStatus,
            _ => Self::Whole,
        }
    }

    /// May a top-level field be owned?
    pub fn covers(self, field: &str) -> bool {
        match (field, self) {
            ("kind" | "apiVersion", _) => false,
            ("metadata", _) | (_, Self::Whole) => true,
            ("status", scope) => scope == Self::StatusOnly,
            (_, scope) => scope == Self::WithoutStatus,
        }
    }
}

/// Takes the entries out of a tree; None when one of them cannot be read.
pub fn take_entries(tree: &mut Value) -> Option<Vec<Entry>> {
    match tree.get_mut("metadata")?.as_object_mut()?.remove("managedFields")? {
        Value::Array(entries) => entries.into_iter().map(Entry::read).collect(),
        _ => None,
    }
}

/// The entries of a tree that stays as it is.
pub fn read_entries(tree: &Value) -> Vec<Entry> {
    let entries = tree.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(|e| Entry::read(e.clone())).collect()
}

/// Puts entries into a tree, in Kubernetes' order and without empty ones.
pub fn put_entries(tree: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|e| !e.fields.is_empty());
    cap(&mut entries);
    entries.sort_by(|a, b| {
        let key = |e: &Entry| (e.operation, e.time.clone(), e.manager.clone(), e.api_version.clone());
        key(a).cmp(&key(b))
    });
    let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), entries.into_iter().map(Entry::write).collect());
    }
}

/// Records a create, an update or a patch other than apply in `new`.
///
/// Both trees are in the version the request used. `new` may carry the client's managedFields: valid
/// ones count, `[{}]` ends tracking, and anything else is replaced by what is stored. An object that
/// is not tracked stays so until it is applied.
pub fn update_managers(def: &KindDef, node: &Node, old: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    if ends_tracking(new) {
        put_entries(new, Vec::new());
        return;
    }
    let sent = take_entries(new).filter(|entries| !entries.is_empty() && writer.subresource.is_empty());
    let mut entries = match (sent, old) {
        (Some(sent), _) => sent,
        (None, Some(old)) => read_entries(old),
        (None, None) => Vec::new(),
    };
    if old.is_some() && entries.is_empty() {
        return;
    }
    let changes = changes(node, old, new, Scope::of(def, writer.subresource));
    if !changes.is_empty() {
        assign(&mut entries, changes, writer);
    }
    put_entries(new, entries);
}

fn ends_tracking(tree: &Value) -> bool {
    let entries = tree.pointer("/metadata/managedFields").and_then(Value::as_array);
    matches!(entries.map(Vec::as_slice), Some([Value::Object(only)]) if only.is_empty())
}

/// Gives the touched fields to the writer and takes touched and removed ones from everybody else.
fn assign(entries: &mut Vec<Entry>, changes: Changes, writer: &Writer<'_>) {
    let mut own = None;
    for (index, entry) in entries.iter_mut().enumerate() {
        if entry.belongs_to(writer, Operation::Update) {
            own = Some(index);
        } else {
            entry.fields.subtract(&changes.touched);
        }
        entry.fields.subtract(&changes.removed);
    }
    match own {
        Some(index) if !changes.touched.is_empty() => {
            let entry = &mut entries[index];
            entry.fields.unite(changes.touched);
            entry.time = time::time(writer.now);
        }
        None => entries.push(Entry::new(writer, Operation::Update, changes.touched)),
        Some(_) => {}
    }
}

/// Merges the oldest Update entries beyond the limit into one, per version.
fn cap(entries: &mut Vec<Entry>) {
    let updates = |entries: &[Entry]| entries.iter().filter(|e| e.operation == Operation::Update).count();
    while updates(entries) > MAX_UPDATE_ENTRIES {
        let oldest = (0..entries.len())
            .filter(|i| entries[*i].operation == Operation::Update && entries[*i].manager != ANCIENT)
            .min_by(|a, b| entries[*a].time.cmp(&entries[*b].time));
        let Some(oldest) = oldest else { return };
        let old = entries.remove(oldest);
        let ancient = entries
            .iter_mut()
            .find(|e| e.manager == ANCIENT && e.api_version == old.api_version && e.subresource == old.subresource);
        match ancient {
            Some(ancient) => {
                ancient.fields.unite(old.fields);
                ancient.time = ancient.time.clone().max(old.time);
            }
            // Renaming alone removes nothing; the next round merges into it.
            None => entries.push(Entry { manager: ANCIENT.to_owned(), ..old }),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
