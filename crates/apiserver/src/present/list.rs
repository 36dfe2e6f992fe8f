//! Collections as answers.

use crate::present::body::Body;
use crate::present::negotiate::{Media, Negotiated, Rendition};
use crate::present::table::Rows;
use crate::present::{Listed, partial};
use crate::registry::kinds::Resource;
use kybern_api::codec;
use kybern_api::error::Status;
use kybern_api::object::Object;
use serde_json::{Map, Value};

/// A rendered list.
#[derive(Debug)]
pub enum ListBody {
    /// Not to be touched again: sent as it is.
    Streamed(Body),
    /// A document that may be indented, translated or compressed.
    Whole(Vec<u8>),
}

/// Renders a page.
///
/// # Errors
/// 500 when a stored object is no JSON.
pub fn render(resource: &Resource, listed: Listed, n: &Negotiated, now: jiff::Timestamp) -> Result<ListBody, Status> {
    let (def, served) = (resource.def(), resource.served());
    let open = codec::list_open(def, served, listed.revision, listed.next.as_deref(), listed.remaining);
    let whole = match n.rendition {
        Rendition::Table(include) => Rows { resource, include, now }.table(&metadata(&listed), true, &listed.items)?,
        Rendition::Partial => join(partial_open(&listed), &listed.items, |o, out| {
            out.extend_from_slice(&partial::partial(o)?);
            Ok(())
        })?,
        Rendition::Object if !resource.is_stored_form() => join(open, &listed.items, |o, out| {
            // Items of a list carry no kind and apiVersion: what follows the prefix, in braces.
            let bytes = codec::render(def, served, o)?;
            out.push(b'{');
            out.extend_from_slice(bytes.get(served.prefix.len()..).unwrap_or_default());
            Ok(())
        })?,
        Rendition::Object if n.media == Media::Json && !n.pretty && !n.gzip => {
            return Ok(ListBody::Streamed(Body::items(open, listed.items)));
        }
        Rendition::Object => join(open, &listed.items, |o, out| {
            out.extend_from_slice(&o.bytes);
            Ok(())
        })?,
    };
    Ok(ListBody::Whole(whole))
}

fn partial_open(listed: &Listed) -> String {
    let metadata = metadata(listed);
    format!(
        "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{metadata},\"items\":["
    )
}

fn join(
    open: String,
    items: &[Object],
    mut write: impl FnMut(&Object, &mut Vec<u8>) -> Result<(), Status>,
) -> Result<Vec<u8>, Status> {
    let mut out = open.into_bytes();
    out.reserve(items.iter().map(|o| o.bytes.len() + 1).sum::<usize>() + 2);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, &mut out)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

/// The list's own metadata.
fn metadata(listed: &Listed) -> Value {
    let mut m = Map::new();
    m.insert("resourceVersion".into(), listed.revision.to_string().into());
    if let Some(next) = &listed.next {
        m.insert("continue".into(), next.clone().into());
    }
    if let Some(remaining) = listed.remaining {
        m.insert("remainingItemCount".into(), remaining.into());
    }
    Value::Object(m)
}
