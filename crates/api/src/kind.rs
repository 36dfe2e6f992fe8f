//! A kind is declared once, as data: routing, discovery, columns, selectors, GC and roles are read from it.

use crate::error::Status;
use crate::object::Head;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// A field that field selectors may name.
#[derive(Clone)]
pub struct Selectable {
    /// Path as written in a selector, for example `spec.nodeName`.
    pub path: SmolStr,
    /// Reads it from the stored object; absent is the empty string.
    pub read: fn(&Value) -> SmolStr,
}

impl std::fmt::Debug for Selectable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
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
        let part = |v: &Value| -> Vec<(String, Value)> {
            v.as_object()
                .map(|m| {
                    m.iter()
                        .filter(|(k, _)| *k != "metadata" && *k != "status")
                        .map(|(k, v)| (k.clone(), v.clone()))
                        .collect()
                })
                .unwrap_or_default()
        };
        part(new) != part(old)
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

/// Name and age: the cells of a kind without columns of its own.
pub fn plain_cells(_def: &KindDef, _obj: &Value, head: &Head, _now: jiff::Timestamp) -> Vec<Value> {
    vec![
        head.name.to_string().into(),
        jiff::Timestamp::from_second(head.created).map(|t| t.to_string()).unwrap_or_default().into(),
    ]
}
