//! A kind is declared once, as data: routing, discovery, columns, selectors, GC and roles are read from it.

use crate::attributes::UserInfo;
use crate::error::Status;
use crate::meta::quantity::Quantity;
use crate::meta::time;
use crate::object::Head;
use crate::quota::{Amounts, Quota, Scope as QuotaScope};
use crate::tree;
use serde_json::Value;
use smol_str::SmolStr;
use std::sync::Arc;

/// One served version of a kind.
#[derive(Debug, Clone)]
pub struct Served {
    /// API version, for example `v1`.
    pub version: SmolStr,
    /// The OpenAPI definition (`io.k8s.api.core.v1.Pod`); key into [`crate::schema`].
    pub schema: SmolStr,
    /// Turns the stored form into this version; None where they are equal.
    pub from_stored: Option<fn(&mut Value)>,
    /// Turns this version into the stored form; None where they are equal.
    pub to_stored: Option<fn(&mut Value)>,
    /// `{"kind":"Pod","apiVersion":"v1",`: put before an object's bytes (less their brace) in answers.
    pub prefix: Arc<str>,
}

/// Is the object of this kind inside a namespace?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// In none.
    Cluster,
}

/// How names of a kind are checked (`k8s/validation.md` §6).
#[derive(Debug, Clone, Copy)]
pub enum NameRule {
    /// DNS-1123 subdomain, up to 253.
    Subdomain,
    /// DNS-1123 label, up to 63.
    Label,
    /// DNS-1035 label.
    Label1035,
    /// Any path segment.
    Path,
    /// A rule of the kind's own.
    Custom(fn(&str) -> Result<(), String>),
}

/// What acts on the kind in this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Served, and something acts on it (or nothing needs to).
    Full,
    /// Served with a Warning header: nothing acts on it yet.
    Inert,
    /// Not served: silence would be unsafe.
    Withheld,
}

/// A subresource and the kind of its body.
#[derive(Debug, Clone)]
pub struct Subresource {
    /// `status`, `scale`, `log`, ...
    pub name: SmolStr,
    /// Group of the body's kind.
    pub group: SmolStr,
    /// Version of the body's kind.
    pub version: SmolStr,
    /// Kind of the body.
    pub kind: SmolStr,
    /// Verbs.
    pub verbs: Vec<SmolStr>,
}

/// A column of `kubectl get`.
#[derive(Debug, Clone)]
pub struct Column {
    /// Heading.
    pub name: SmolStr,
    /// OpenAPI type: `string`, `integer`, `date`, ...
    pub kind: SmolStr,
    /// OpenAPI format; `name` for the name column.
    pub format: SmolStr,
    /// Text of the column's help.
    pub description: SmolStr,
    /// 0 is shown by default, 1 with `-o wide`.
    pub priority: i32,
    /// Where the cell's value comes from.
    pub cell: Cell,
}

/// Where a cell's value comes from.
#[derive(Clone)]
pub enum Cell {
    /// metadata.name
    Name,
    /// The human age of the object; depends on the clock.
    Age,
    /// metadata.creationTimestamp
    Created,
    /// The value at a dotted path of the stored object, or `missing` where there is none.
    Path {
        /// For example `spec.nodeName`.
        path: SmolStr,
        /// Stands in for an absent, null or empty value.
        missing: Value,
    },
    /// Computed.
    With(fn(&View<'_>) -> Value),
}

impl Cell {
    /// The cell of one object.
    pub fn read(&self, view: &View<'_>) -> Value {
        match self {
            Self::Name => view.head.name.as_str().into(),
            Self::Age => time::age(view.now, view.head.created).into(),
            Self::Created => time::seconds(view.head.created).into(),
            Self::Path { path, missing } => match tree::at(view.obj, path) {
                None | Some(Value::Null) => missing.clone(),
                Some(Value::String(s)) if s.is_empty() => missing.clone(),
                Some(found) => found.clone(),
            },
            Self::With(compute) => compute(view),
        }
    }
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name => f.write_str("Name"),
            Self::Age => f.write_str("Age"),
            Self::Created => f.write_str("Created"),
            Self::Path { path, .. } => write!(f, "Path({path})"),
            Self::With(_) => f.write_str("With"),
        }
    }
}

/// What a cell is computed from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The stored object.
    pub obj: &'a Value,
    /// Its head.
    pub head: &'a Head,
    /// The time of the request.
    pub now: jiff::Timestamp,
}

/// A field that field selectors may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selectable {
    /// Path as written in a selector, for example `spec.nodeName`.
    pub path: SmolStr,
    /// A second, older spelling (`spec.host`).
    pub alias: Option<SmolStr>,
    /// Dotted path in the stored object; differs from `path` where another version is stored.
    pub source: SmolStr,
    /// What an absent value reads as: empty, except for booleans and counts.
    pub missing: SmolStr,
}

impl Selectable {
    /// Reads the field from the stored object.
    pub fn value(&self, obj: &Value) -> SmolStr {
        match tree::at(obj, &self.source) {
            None | Some(Value::Null) => self.missing.clone(),
            Some(Value::String(s)) => SmolStr::new(s),
            Some(other) => smol_str::format_smolstr!("{other}"),
        }
    }
}

/// Everything the system knows of a kind. Built-in kinds are rows of [`crate::kinds`]'s table; a
/// CustomResourceDefinition builds the same struct at run time.
#[derive(Debug, Clone)]
pub struct KindDef {
    /// API group; empty for core.
    pub group: SmolStr,
    /// Kind.
    pub kind: SmolStr,
    /// `KindList`.
    pub list_kind: SmolStr,
    /// Plural resource name.
    pub plural: SmolStr,
    /// Singular name.
    pub singular: SmolStr,
    /// Short names.
    pub short_names: Vec<SmolStr>,
    /// Categories, such as `all`.
    pub categories: Vec<SmolStr>,
    /// Scope.
    pub scope: Scope,
    /// Verbs of the resource itself.
    pub verbs: Vec<SmolStr>,
    /// Subresources.
    pub subresources: Vec<Subresource>,
    /// Served versions, preferred first.
    pub served: Vec<Served>,
    /// Index into `served` of the stored version.
    pub stored: usize,
    /// Another group that serves the same stored objects (events: core and events.k8s.io): the
    /// `(group, plural)` whose storage this row uses. None: its own.
    pub storage: Option<(SmolStr, SmolStr)>,
    /// Selectable fields besides metadata.name and metadata.namespace.
    pub selectable: Vec<Selectable>,
    /// Columns of `kubectl get`.
    pub columns: Vec<Column>,
    /// Name rule.
    pub names: NameRule,
    /// What acts on it.
    pub support: Support,
    /// Objects expire after so many seconds (events: 3600).
    pub ttl: Option<u64>,
    /// Encrypted at rest.
    pub sealed: bool,
    /// A PUT of a missing object creates it (`validation.md` §1).
    pub create_on_update: bool,
    /// A PUT must carry metadata.resourceVersion.
    pub needs_revision: bool,
    /// Where its objects describe pods that will be made of them: a JSON pointer to the pod template.
    pub pod_template: Option<&'static str>,
    /// Behaviour.
    pub strategy: &'static dyn Strategy,
}

impl KindDef {
    /// Has it a `status` subresource (so writes keep the other half, and generation counts)?
    pub fn has_status(&self) -> bool {
        self.subresources.iter().any(|s| s.name == "status")
    }
    /// The served version of this name.
    pub fn version(&self, version: &str) -> Option<&Served> {
        self.served.iter().find(|s| s.version == version)
    }
    /// The stored version.
    pub fn stored_version(&self) -> &Served {
        &self.served[self.stored]
    }
    /// `v1` or `apps/v1`.
    pub fn api_version(&self, served: &Served) -> String {
        if self.group.is_empty() { served.version.to_string() } else { format!("{}/{}", self.group, served.version) }
    }
    /// A subresource.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
    /// Is it inside namespaces?
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}

/// Collects validation failures with their field paths; see [`crate::validate`].
pub type Causes = Vec<crate::error::Cause>;

/// What a validation may look at besides the object.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The row.
    pub def: &'a KindDef,
    /// The subresource being written, or empty.
    pub subresource: &'a str,
    /// Wall-clock time of the request.
    pub now: jiff::Timestamp,
}

/// A range that objects take values from, each value once in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pool {
    /// Addresses of services.
    ServiceAddress,
    /// Ports on every node; per protocol.
    NodePort,
}

/// One value an object takes from a [`Pool`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The range.
    pub pool: Pool,
    /// Tells equal values apart that do not collide: the protocol of a port, or empty.
    pub class: SmolStr,
    /// The value; None: any free one.
    pub value: Option<SmolStr>,
    /// JSON pointers (RFC 6901) to where the value belongs; a pointer's parent must exist.
    pub pointers: Vec<String>,
}

/// A kind's behaviour. Every method has a default that fits a plain kind.
///
/// Trees are in the stored version. `old` is what is stored, on update.
pub trait Strategy: Send + Sync + 'static {
    /// Sets the defaults (`k8s/defaults.tsv`); idempotent. Runs in the codec, for request bodies and
    /// stored bytes alike, and nowhere else.
    fn default(&self, _obj: &mut Value) {}
    /// Clears what a client may not set, keeps what an update may not change silently. The engine has
    /// already isolated status and spec and merged system metadata.
    fn prepare(&self, _ctx: &Context<'_>, _obj: &mut Value, _old: Option<&Value>) {}
    /// Checks the object (and, on update, what may not change).
    fn validate(&self, _ctx: &Context<'_>, _obj: &Value, _old: Option<&Value>, _causes: &mut Causes) {}
    /// Warnings for the Warning header.
    fn warnings(&self, _ctx: &Context<'_>, _obj: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }
    /// Has the desired state changed (then generation rises)? The default compares everything but
    /// metadata and status.
    fn desired_changed(&self, new: &Value, old: &Value) -> bool {
        let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return new != old };
        let desired = |key: &str| key != "metadata" && key != "status";
        let count = |m: &serde_json::Map<String, Value>| m.keys().filter(|k| desired(k)).count();
        count(new) != count(old) || new.iter().any(|(k, v)| desired(k) && old.get(k) != Some(v))
    }
    /// Does it count generations? The default: kinds with a status subresource (and a spec).
    fn counts_generation(&self, def: &KindDef) -> bool {
        def.has_status()
    }
    /// Grace period in seconds of a graceful delete; None where the kind has no grace. `requested`
    /// is what DeleteOptions say.
    fn grace(&self, _obj: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }
    /// Records in a new object who creates it, before [`Strategy::prepare`].
    fn created_by(&self, _obj: &mut Value, _user: &UserInfo) {}
    /// A new object keeps the status its creator sends (nodes).
    fn keeps_status_on_create(&self) -> bool {
        false
    }
    /// Marks an object whose deletion begins but waits for something (a namespace turns Terminating).
    fn begin_deletion(&self, _obj: &mut Value) {}
    /// Must a deletion wait for more than metadata.finalizers (spec.finalizers of a namespace)?
    fn holds_deletion(&self, _obj: &Value) -> bool {
        false
    }
    /// The propagation policy of a delete that names none and whose object has no finalizer that
    /// decides; None is Background.
    fn default_propagation(&self) -> Option<&'static str> {
        None
    }
    /// Is a delete answered with the object, also when it is removed at once (`validation.md` §5)?
    fn answers_deletion_with_object(&self) -> bool {
        false
    }
    /// What the object takes out of the cluster's shared ranges. Slots without a value are filled by
    /// the engine, in the same transaction.
    fn slots(&self, _obj: &Value) -> Vec<Slot> {
        Vec::new()
    }
    /// What the object uses of its namespace's quotas, besides its place in the count of all objects of
    /// the kind.
    fn usage(&self, def: &KindDef, _obj: &Value) -> Amounts {
        // The old counts, by the plain name, exist in the core group only.
        let plain = def.group.is_empty().then(|| (def.plural.clone(), Quantity::from_int(1)));
        plain.into_iter().collect()
    }
    /// Does what an object uses depend on more than its being there?
    fn usage_varies(&self) -> bool {
        false
    }
    /// Is the object in a scope of a quota?
    fn in_scope(&self, _obj: &Value, _scope: &QuotaScope) -> bool {
        false
    }
    /// What the object must state because a quota bounds it, and does not.
    fn unsaid(&self, _obj: &Value, _quota: &Quota) -> Option<String> {
        None
    }
    /// The quota this object is.
    fn quota(&self, _obj: &Value) -> Option<Quota> {
        None
    }
    /// Cells of a Table row, one per column of the row's [`KindDef::columns`].
    fn cells(&self, def: &KindDef, obj: &Value, head: &Head, now: jiff::Timestamp) -> Vec<Value> {
        crate::kind::plain_cells(def, obj, head, now)
    }
    /// A last word before the commit, on the freshest object: refuses with a Status.
    ///
    /// # Errors
    /// The status to answer with.
    fn check_delete(&self, _obj: &Value) -> Result<(), Status> {
        Ok(())
    }
}

impl std::fmt::Debug for dyn Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Strategy")
    }
}

/// A kind without behaviour.
#[derive(Debug)]
pub struct Plain;
impl Strategy for Plain {}

/// The cells of a row, column by column.
pub fn plain_cells(def: &KindDef, obj: &Value, head: &Head, now: jiff::Timestamp) -> Vec<Value> {
    let view = View { obj, head, now };
    def.columns.iter().map(|c| c.cell.read(&view)).collect()
}
