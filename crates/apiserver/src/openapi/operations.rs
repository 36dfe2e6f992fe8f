//! Paths and operations: what the rows serve, in either style.

use super::Style;
use crate::discovery::in_version;
use crate::patch::CONTENT_TYPES;
use kybern_api::kind::{KindDef, Served, Subresource};
use kybern_api::schema;
use serde_json::{Map, Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const MEDIA: &[&str] = &["application/json", "application/yaml"];

/// A query parameter: name, type, what it does.
type Parameter = (&'static str, &'static str, &'static str);
/// Verb, HTTP method, action and query parameters.
type Method = (&'static str, &'static str, &'static str, &'static [Parameter]);

const PRETTY: Parameter = ("pretty", "string", "Indents the answer.");
const DRY_RUN: Parameter = ("dryRun", "string", "With All nothing is stored; no other value is known.");
const MANAGER: Parameter = ("fieldManager", "string", "Who makes the change; required for apply.");
const VALIDATION: Parameter =
    ("fieldValidation", "string", "Ignore, Warn or Strict: what becomes of unknown and duplicate fields.");
const FORCE: Parameter = ("force", "boolean", "Apply takes over fields that others manage.");
const WRITE: &[Parameter] = &[DRY_RUN, MANAGER, VALIDATION];
const PATCH: &[Parameter] = &[DRY_RUN, MANAGER, VALIDATION, FORCE];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    ("gracePeriodSeconds", "integer", "Seconds before the object goes; 0 is at once."),
    ("orphanDependents", "boolean", "Outdated; see propagationPolicy."),
    ("propagationPolicy", "string", "Orphan, Background or Foreground: what becomes of dependents."),
];
const LIST: &[Parameter] = &[
    ("labelSelector", "string", "Only objects with such labels."),
    ("fieldSelector", "string", "Only objects with such fields."),
    ("limit", "integer", "At most so many objects; the answer says where to continue."),
    ("continue", "string", "Continues a list where the last answer ended."),
    ("resourceVersion", "string", "How fresh the answer has to be."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    ("timeoutSeconds", "integer", "Ends the request after so many seconds."),
    ("watch", "boolean", "Answers with a stream of changes."),
    ("allowWatchBookmarks", "boolean", "The watch may send bookmarks."),
    ("sendInitialEvents", "boolean", "The watch starts with the present objects."),
];

/// One operation of a path.
struct Operation<'a> {
    method: &'static str,
    action: &'static str,
    id: String,
    query: &'static [Parameter],
    /// Definition of the request body; patches take any of theirs.
    body: Option<String>,
    /// Definition of the answer; None is text.
    answer: Option<String>,
    kind: (&'a str, &'a str, &'a str),
}

/// Adds all paths of one group version, and the definitions they name to `roots`.
pub(super) fn paths(
    rows: &[&KindDef],
    group: &str,
    version: &str,
    style: Style,
    paths: &mut Map<String, Value>,
    roots: &mut Vec<String>,
) {
    let base = format!("/{}", super::path_of(group, version));
    for (row, served) in in_version(rows, group, version) {
        let row = Row { row, served, style };
        let collection = if row.row.namespaced() {
            let everywhere = row.item(&[], row.all_namespaces(), roots);
            put(paths, format!("{base}/{}", row.row.plural), everywhere);
            format!("{base}/namespaces/{{namespace}}/{}", row.row.plural)
        } else {
            format!("{base}/{}", row.row.plural)
        };
        let scope: &[&str] = if row.row.namespaced() { &["namespace"] } else { &[] };
        let named: &[&str] = if row.row.namespaced() { &["name", "namespace"] } else { &["name"] };
        put(paths, collection.clone(), row.item(scope, row.collection(), roots));
        put(paths, format!("{collection}/{{name}}"), row.item(named, row.object(), roots));
        for sub in &row.row.subresources {
            put(paths, format!("{collection}/{{name}}/{}", sub.name), row.item(named, row.subresource(sub), roots));
        }
    }
}

fn put(paths: &mut Map<String, Value>, path: String, item: Option<Value>) {
    if let Some(item) = item {
        paths.insert(path, item);
    }
}

struct Row<'a> {
    row: &'a KindDef,
    served: &'a Served,
    style: Style,
}

impl<'a> Row<'a> {
    fn allows(&self, verb: &str) -> bool {
        self.row.verbs.iter().any(|v| v == verb)
    }

    fn id(&self, action: &str, suffix: &str) -> String {
        let group = self.row.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
        let scope = if self.row.namespaced() { "Namespaced" } else { "" };
        let (group, version) = (capital(group), capital(&self.served.version));
        format!("{action}{group}{version}{scope}{}{suffix}", self.row.kind)
    }

    fn operation(&self, method: &'static str, action: &'static str, query: &'static [Parameter]) -> Operation<'a> {
        Operation {
            method,
            action,
            id: self.id(action, ""),
            query,
            body: None,
            answer: Some(self.served.schema.to_string()),
            kind: (&self.row.group, &self.served.version, &self.row.kind),
        }
    }

    fn list(&self) -> Operation<'a> {
        Operation { answer: Some(format!("{}List", self.served.schema)), ..self.operation("get", "list", LIST) }
    }

    fn all_namespaces(&self) -> Vec<Operation<'a>> {
        let list = || Operation { id: self.id("list", "ForAllNamespaces"), ..self.list() };
        self.allows("list").then(list).into_iter().collect()
    }

    fn collection(&self) -> Vec<Operation<'a>> {
        let mut operations = Vec::new();
        if self.allows("list") {
            operations.push(self.list());
        }
        if self.allows("create") {
            let body = Some(self.served.schema.to_string());
            operations.push(Operation { body, ..self.operation("post", "post", WRITE) });
        }
        if self.allows("deletecollection") {
            let (body, answer) = (Some(meta("DeleteOptions")), Some(meta("Status")));
            operations.push(Operation { body, answer, ..self.operation("delete", "deletecollection", LIST) });
        }
        operations
    }

    fn object(&self) -> Vec<Operation<'a>> {
        let mut operations = Vec::new();
        for (verb, operation) in [
            ("get", self.operation("get", "get", &[])),
            ("update", self.with_body(self.operation("put", "put", WRITE))),
            ("patch", Operation { body: Some(meta("Patch")), ..self.operation("patch", "patch", PATCH) }),
            ("delete", self.delete()),
        ] {
            if self.allows(verb) {
                operations.push(operation);
            }
        }
        operations
    }

    fn delete(&self) -> Operation<'a> {
        let (body, answer) = (Some(meta("DeleteOptions")), Some(meta("Status")));
        Operation { body, answer, ..self.operation("delete", "delete", DELETE) }
    }

    fn with_body(&self, operation: Operation<'a>) -> Operation<'a> {
        Operation { body: operation.answer.clone(), ..operation }
    }

    fn subresource(&self, sub: &'a Subresource) -> Vec<Operation<'a>> {
        let version = if sub.kind == self.row.kind { &self.served.version } else { &sub.version };
        let definition = definition_of(&sub.group, version, &sub.kind);
        let methods: [Method; 5] = [
            ("get", "get", "get", &[]),
            ("create", "post", "post", WRITE),
            ("update", "put", "put", WRITE),
            ("patch", "patch", "patch", PATCH),
            ("delete", "delete", "delete", &[]),
        ];
        methods
            .into_iter()
            .filter(|(verb, ..)| sub.verbs.iter().any(|v| v == verb))
            .map(|(verb, method, action, query)| Operation {
                id: self.id(action, &capital(&sub.name)),
                body: match verb {
                    "create" | "update" => definition.clone(),
                    "patch" => Some(meta("Patch")),
                    _ => None,
                },
                answer: definition.clone(),
                kind: (&sub.group, version, &sub.kind),
                ..self.operation(method, action, query)
            })
            .collect()
    }

    /// One path: its parameters and operations. None without operations.
    fn item(&self, in_path: &[&str], operations: Vec<Operation<'_>>, roots: &mut Vec<String>) -> Option<Value> {
        if operations.is_empty() {
            return None;
        }
        let mut item = Map::new();
        let path = in_path.iter().map(|name| self.parameter("path", name, "string", "Of the object.", true));
        let (name, kind, text) = PRETTY;
        item.insert("parameters".into(), path.chain([self.parameter("query", name, kind, text, false)]).collect());
        for operation in operations {
            roots.extend(operation.body.iter().chain(&operation.answer).cloned());
            item.insert(operation.method.into(), self.render(&operation));
        }
        Some(Value::Object(item))
    }

    fn parameter(&self, place: &str, name: &str, kind: &str, text: &str, required: bool) -> Value {
        let mut body = json!({"name": name, "in": place, "description": text, "uniqueItems": true});
        if required {
            body["required"] = true.into();
        }
        match self.style {
            Style::V2 => body["type"] = kind.into(),
            Style::V3 => body["schema"] = json!({"type": kind, "uniqueItems": true}),
        }
        if self.style == Style::V3
            && let Some(map) = body.as_object_mut()
        {
            map.remove("uniqueItems");
        }
        body
    }

    fn render(&self, operation: &Operation<'_>) -> Value {
        let (group, version, kind) = operation.kind;
        let query = operation.query.iter().map(|(name, kind, text)| self.parameter("query", name, kind, text, false));
        let mut parameters: Vec<Value> = query.collect();
        let mut body = json!({
            "operationId": operation.id,
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let patches = || CONTENT_TYPES.iter().map(|(media, _)| *media);
        let schema = operation.answer.as_ref().map_or_else(|| json!({"type": "string"}), |d| self.style.reference(d));
        let mut ok = json!({"description": "OK"});
        if self.style == Style::V2 {
            if let Some(definition) = &operation.body {
                let required = operation.method != "delete";
                parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": self.style.reference(definition)}));
            }
            body["consumes"] = if operation.method == "patch" { patches().collect() } else { json!(["*/*"]) };
            body["produces"] = json!(MEDIA);
            body["schemes"] = json!(["https"]);
            ok["schema"] = schema;
        } else {
            let content = |media: &mut dyn Iterator<Item = &'static str>, schema: &Value| -> Value {
                media.map(|m| (m.to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
            };
            if let Some(definition) = &operation.body {
                let reference = self.style.reference(definition);
                let content = match operation.method {
                    "patch" => content(&mut patches(), &reference),
                    _ => content(&mut ["*/*"].into_iter(), &reference),
                };
                body["requestBody"] = json!({"content": content});
            }
            ok["content"] = content(&mut MEDIA.iter().copied(), &schema);
        }
        body["parameters"] = parameters.into();
        body["responses"] = json!({"200": ok, "401": {"description": "Unauthorized"}});
        body
    }
}

fn meta(name: &str) -> String {
    format!("{META}{name}")
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// The definition that is this kind.
fn definition_of(group: &str, version: &str, kind: &str) -> Option<String> {
    let is = |d: &&schema::Definition| {
        d.gvk.as_ref().is_some_and(|g| g.group == group && g.version == version && g.kind == kind)
    };
    schema::all().iter().find(is).map(|d| d.name.to_string())
}
