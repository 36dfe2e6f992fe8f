//! Tables: what `kubectl get` prints.

use crate::present::negotiate::Include;
use crate::present::partial;
use crate::registry::kinds::Resource;
use kybern_api::codec;
use kybern_api::error::{Reason, Status};
use kybern_api::kind::KindDef;
use kybern_api::object::Object;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Renders rows of one resource.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The resource.
    pub resource: &'a Resource,
    /// What each row carries besides its cells.
    pub include: Include,
    /// For cells that tell an age.
    pub now: jiff::Timestamp,
}

#[derive(serde::Serialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Box<RawValue>>,
}

impl Rows<'_> {
    /// A whole table. `metadata` is that of the list; `columns`: describe the columns.
    ///
    /// # Errors
    /// 500 when a stored object is no JSON.
    pub fn table(&self, metadata: &Value, columns: bool, objects: &[Object]) -> Result<Vec<u8>, Status> {
        let definitions = if columns { definitions(self.resource.def()) } else { Value::Null };
        let open = json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": definitions,
        });
        let mut out = Vec::with_capacity(1024 + objects.len() * 512);
        let mut open = open.to_string();
        open.pop();
        out.extend_from_slice(open.as_bytes());
        out.extend_from_slice(b",\"rows\":[");
        for (i, object) in objects.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            serde_json::to_writer(&mut out, &self.row(object)?).map_err(|e| Status::internal(e.to_string()))?;
        }
        out.extend_from_slice(b"]}");
        Ok(out)
    }

    fn row(&self, object: &Object) -> Result<Row, Status> {
        let def = self.resource.def();
        let tree = object.tree().map_err(|e| Status::internal(format!("stored {}: {e}", def.kind)))?;
        let cells = def.strategy.cells(def, &tree, &object.head, self.now);
        let json = match self.include {
            Include::None => None,
            Include::Metadata => Some(partial::partial(object)?),
            Include::Object => Some(codec::render(def, self.resource.served(), object)?),
        };
        let raw = |b: bytes::Bytes| {
            let text = String::from_utf8(b.into()).map_err(|e| e.to_string())?;
            RawValue::from_string(text).map_err(|e| e.to_string())
        };
        Ok(Row { cells, object: json.map(raw).transpose().map_err(Status::internal)? })
    }
}

fn definitions(def: &KindDef) -> Value {
    let column = |name: &str, kind: &str, format: &str, description: &str, priority: i32| json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority});
    if def.columns.is_empty() {
        return json!([
            column("Name", "string", "name", "Name of the object.", 0),
            column("Created At", "date", "", "When the object was created.", 0),
        ]);
    }
    def.columns.iter().map(|c| column(&c.name, &c.kind, &c.format, &c.description, c.priority)).collect()
}

/// 406 for what has no metadata to make rows of.
pub fn not_convertible(group: &str, resource: &str) -> Status {
    let name = kybern_api::error::qualified(group, resource);
    Status::new(Reason::NotAcceptable, format!("the resource {name} does not support being converted to a Table"))
}
