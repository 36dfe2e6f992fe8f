//! How a kind's file writes its row: what most kinds share is the default, the rest is said.

use crate::kind::{Cell, Column, KindDef, NameRule, Plain, Scope, Selectable, Served, Strategy, Subresource, Support};
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};

const READ_WRITE: [&str; 3] = ["get", "patch", "update"];
const ALL_VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A row under construction: a namespaced kind with all verbs that is fully supported, until told
/// otherwise.
pub(crate) struct Row(KindDef);

impl Row {
    /// A kind of `group` (empty for core) served and stored in `version`.
    pub(crate) fn new(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self(KindDef {
            group: group.into(),
            kind: kind.into(),
            list_kind: format_smolstr!("{kind}List"),
            plural: plural.into(),
            singular: kind.to_ascii_lowercase().into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope: Scope::Namespaced,
            verbs: words(&ALL_VERBS),
            subresources: Vec::new(),
            served: vec![served(group, version, kind)],
            stored: 0,
            storage: None,
            selectable: Vec::new(),
            columns: vec![name(), created()],
            names: NameRule::Subdomain,
            support: Support::Full,
            ttl: None,
            sealed: false,
            create_on_update: false,
            needs_revision: false,
            pod_template: None,
            strategy: &Plain,
        })
    }
    pub(crate) fn cluster(mut self) -> Self {
        self.0.scope = Scope::Cluster;
        self
    }
    pub(crate) fn short(mut self, names: &[&str]) -> Self {
        self.0.short_names = words(names);
        self
    }
    pub(crate) fn category(mut self, category: &str) -> Self {
        self.0.categories.push(category.into());
        self
    }
    pub(crate) fn verbs(mut self, verbs: &[&str]) -> Self {
        self.0.verbs = words(verbs);
        self
    }
    /// A request kind: it is created, answered and never stored.
    pub(crate) fn create_only(self) -> Self {
        self.verbs(&["create"])
    }
    pub(crate) fn without(mut self, verb: &str) -> Self {
        self.0.verbs.retain(|v| v != verb);
        self
    }
    /// A further served version, after the preferred one, with its conversions from and to the
    /// stored form.
    pub(crate) fn also(mut self, version: &str, from_stored: fn(&mut Value), to_stored: fn(&mut Value)) -> Self {
        self.0.served.push(Served {
            from_stored: Some(from_stored),
            to_stored: Some(to_stored),
            ..served(&self.0.group, version, &self.0.kind)
        });
        self
    }
    /// The objects live in another group's storage, in its form.
    pub(crate) fn stored_as(mut self, group: &str, from_stored: fn(&mut Value), to_stored: fn(&mut Value)) -> Self {
        self.0.storage = Some((group.into(), self.0.plural.clone()));
        self.0.served[0].from_stored = Some(from_stored);
        self.0.served[0].to_stored = Some(to_stored);
        self
    }
    /// A subresource whose body is a kind of the same group and version.
    pub(crate) fn sub(self, name: &str, kind: &str, verbs: &[&str]) -> Self {
        let (group, version) = (self.0.group.clone(), self.0.served[0].version.clone());
        self.sub_of(name, &group, &version, kind, verbs)
    }
    /// A subresource whose body is a kind of another group.
    pub(crate) fn sub_of(mut self, name: &str, group: &str, version: &str, kind: &str, verbs: &[&str]) -> Self {
        self.0.subresources.push(Subresource {
            name: name.into(),
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            verbs: words(verbs),
        });
        self
    }
    /// The `status` subresource.
    pub(crate) fn status(self) -> Self {
        let kind = self.0.kind.clone();
        self.sub("status", &kind, &READ_WRITE)
    }
    /// The `scale` subresource.
    pub(crate) fn scale(self) -> Self {
        self.sub_of("scale", "autoscaling", "v1", "Scale", &READ_WRITE)
    }
    /// A field that selectors may name, as it is spelt in the stored form.
    pub(crate) fn select(self, path: &str) -> Self {
        self.select_from(path, path)
    }
    /// A selectable field that reads as `missing` when it is absent.
    pub(crate) fn select_or(mut self, path: &str, missing: &str) -> Self {
        self.0.selectable.push(Selectable {
            path: path.into(),
            alias: None,
            source: path.into(),
            missing: missing.into(),
        });
        self
    }
    /// A selectable field that is spelt differently in the stored form.
    pub(crate) fn select_from(mut self, path: &str, source: &str) -> Self {
        let missing = SmolStr::default();
        self.0.selectable.push(Selectable { path: path.into(), alias: None, source: source.into(), missing });
        self
    }
    /// A second spelling of the last selectable field.
    pub(crate) fn alias(mut self, alias: &str) -> Self {
        if let Some(last) = self.0.selectable.last_mut() {
            last.alias = Some(alias.into());
        }
        self
    }
    /// Its pods come from the template at this JSON pointer.
    pub(crate) fn pods_from(mut self, template: &'static str) -> Self {
        self.0.pod_template = Some(template);
        self
    }
    pub(crate) fn columns<const N: usize>(mut self, columns: [Column; N]) -> Self {
        self.0.columns = columns.into();
        self
    }
    pub(crate) fn names(mut self, rule: NameRule) -> Self {
        self.0.names = rule;
        self
    }
    /// Nothing acts on it yet: served with a warning.
    pub(crate) fn inert(mut self) -> Self {
        self.0.support = Support::Inert;
        self
    }
    /// Not served until something acts on it: its silence would be unsafe.
    pub(crate) fn withheld(mut self) -> Self {
        self.0.support = Support::Withheld;
        self
    }
    pub(crate) fn ttl(mut self, seconds: u64) -> Self {
        self.0.ttl = Some(seconds);
        self
    }
    pub(crate) fn sealed(mut self) -> Self {
        self.0.sealed = true;
        self
    }
    /// A PUT of a missing object creates it.
    pub(crate) fn create_on_update(mut self) -> Self {
        self.0.create_on_update = true;
        self
    }
    /// A PUT must carry the resourceVersion it read.
    pub(crate) fn needs_revision(mut self) -> Self {
        self.0.needs_revision = true;
        self
    }
    pub(crate) fn strategy(mut self, strategy: &'static dyn Strategy) -> Self {
        self.0.strategy = strategy;
        self
    }
    pub(crate) fn build(self) -> KindDef {
        self.0
    }
}

fn words(list: &[&str]) -> Vec<SmolStr> {
    list.iter().map(SmolStr::new).collect()
}

fn served(group: &str, version: &str, kind: &str) -> Served {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Served {
        version: version.into(),
        schema: definition(group, version, kind),
        from_stored: None,
        to_stored: None,
        prefix: format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",").into(),
    }
}

/// The OpenAPI definition of a kind; two groups live outside the common package.
fn definition(group: &str, version: &str, kind: &str) -> SmolStr {
    let package = match group {
        "" => "api.core".to_owned(),
        "apiextensions.k8s.io" => "apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration.k8s.io" => "kube-aggregator.pkg.apis.apiregistration".to_owned(),
        _ => format!("api.{}", group.split('.').next().unwrap_or_default()),
    };
    format_smolstr!("io.k8s.{package}.{version}.{kind}")
}

/// The name column, first of nearly every kind.
pub(crate) fn name() -> Column {
    Column {
        format: "name".into(),
        ..column("Name", "string", "Name of the object, unique among its kind.", Cell::Name)
    }
}

/// The age column.
pub(crate) fn age() -> Column {
    column("Age", "string", "Time since the object was created.", Cell::Age)
}

/// The creation time, for kinds without columns of their own.
pub(crate) fn created() -> Column {
    column("Created At", "date", "When the object was created.", Cell::Created)
}

/// A text column that shows a field, or nothing.
pub(crate) fn text(heading: &str, path: &str) -> Column {
    field(heading, "string", path, "")
}

/// A text column that shows a field, or `missing`.
pub(crate) fn text_or(heading: &str, path: &str, missing: &str) -> Column {
    field(heading, "string", path, missing)
}

/// An integer column that shows a field, or 0.
pub(crate) fn count(heading: &str, path: &str) -> Column {
    field(heading, "integer", path, 0)
}

/// A column of the given type that shows a field, or `missing`.
pub(crate) fn field(heading: &str, kind: &str, path: &str, missing: impl Into<Value>) -> Column {
    let cell = Cell::Path { path: path.into(), missing: missing.into() };
    column(heading, kind, &format!("The object's {path}."), cell)
}

/// A computed text column.
pub(crate) fn computed(heading: &str, help: &str, compute: fn(&crate::kind::View<'_>) -> Value) -> Column {
    column(heading, "string", help, Cell::With(compute))
}

fn column(heading: &str, kind: &str, help: &str, cell: Cell) -> Column {
    Column {
        name: heading.into(),
        kind: kind.into(),
        format: SmolStr::default(),
        description: help.into(),
        priority: 0,
        cell,
    }
}

impl Column {
    /// Shown with `-o wide` only.
    pub(crate) fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
    /// Of another OpenAPI format.
    pub(crate) fn formatted(mut self, format: &str) -> Self {
        self.format = format.into();
        self
    }
    /// Of another OpenAPI type.
    pub(crate) fn typed(mut self, kind: &str) -> Self {
        self.kind = kind.into();
        self
    }
}
