//! Which rendition in which media type a client wants.

use crate::request::query::{Query, unsupported_option};
use http::{HeaderMap, header};
use kybern_api::codec;
use kybern_api::error::{Reason, Status};

/// A media type objects are sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl Media {
    /// The Content-Type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => codec::PROTOBUF,
        }
    }
}

/// How much of an object a table row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Its metadata.
    Metadata,
    /// Nothing.
    None,
    /// All of it.
    Object,
}

/// What objects are turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rendition {
    /// The object itself.
    Object,
    /// A table row.
    Table(Include),
    /// Its metadata.
    Partial,
}

impl Rendition {
    /// A small number for frame keys.
    pub fn code(self) -> u8 {
        match self {
            Self::Object => 0,
            Self::Table(Include::Metadata) => 1,
            Self::Table(Include::None) => 2,
            Self::Table(Include::Object) => 3,
            Self::Partial => 4,
        }
    }
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The media type.
    pub media: Media,
    /// The rendition.
    pub rendition: Rendition,
    /// Indented for people.
    pub pretty: bool,
    /// May be compressed.
    pub gzip: bool,
}

impl Default for Negotiated {
    fn default() -> Self {
        Self { media: Media::Json, rendition: Rendition::Object, pretty: false, gzip: false }
    }
}

const ACCEPTED: &str = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
const META: &str = "meta.k8s.io";

/// Agrees on the first clause of Accept that can be served. Protobuf comes last, whatever the order of the
/// clauses: stored bytes are JSON and go out as they are, and whoever accepts both reads either.
///
/// # Errors
/// 406 when there is none, 422 for an unknown includeObject.
pub fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Negotiated, Status> {
    let (media, rendition) = match headers.get(header::ACCEPT) {
        None => (Media::Json, Rendition::Object),
        Some(value) => {
            let text = value.to_str().unwrap_or_default();
            let first = text.split(',').find_map(clause).or_else(|| text.split(',').find_map(protobuf));
            first.ok_or_else(|| Status::new(Reason::NotAcceptable, ACCEPTED))?
        }
    };
    let rendition = match rendition {
        Rendition::Table(_) => Rendition::Table(include(query)?),
        r => r,
    };
    Ok(Negotiated { media, rendition, pretty: pretty(headers, query), gzip: gzip(headers) })
}

fn clause(text: &str) -> Option<(Media, Rendition)> {
    let mut parts = text.split(';').map(str::trim);
    let media = match parts.next()? {
        "application/json" | "*/*" | "application/*" | "" => Media::Json,
        "application/yaml" | "text/yaml" | "application/x-yaml" => Media::Yaml,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = (None, None, None);
    for part in parts {
        match part.split_once('=') {
            Some(("as", v)) => kind = Some(v),
            Some(("g", v)) => group = Some(v),
            Some(("v", v)) => version = Some(v),
            _ => {}
        }
    }
    let rendition = match kind {
        None => Rendition::Object,
        Some(_) if group != Some(META) || version != Some("v1") => return None,
        Some("Table") => Rendition::Table(Include::Metadata),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Rendition::Partial,
        Some(_) => return None,
    };
    Some((media, rendition))
}

/// Objects as they are; tables and metadata alone are JSON.
fn protobuf(text: &str) -> Option<(Media, Rendition)> {
    let mut parts = text.split(';').map(str::trim);
    let is_plain = parts.next() == Some(codec::PROTOBUF) && parts.all(|p| !p.starts_with("as="));
    is_plain.then_some((Media::Protobuf, Rendition::Object))
}

fn include(query: &Query) -> Result<Include, Status> {
    match query.get("includeObject") {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(v) => Err(unsupported_option("TableOptions", "includeObject", v, &["Metadata", "None", "Object"])),
    }
}

fn pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(asked) = query.maybe_flag("pretty") {
        return asked;
    }
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|a| agent.starts_with(a))
}

fn gzip(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accepts.split(',').any(|e| {
        let mut parts = e.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|q| q == "q=0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let table = Rendition::Table(Include::Metadata);
        let cases = [
            ("", Some((Media::Json, Rendition::Object))),
            ("*/*", Some((Media::Json, Rendition::Object))),
            ("application/yaml", Some((Media::Yaml, Rendition::Object))),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Media::Json, table))),
            ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Some((Media::Json, Rendition::Object))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Media::Json, Rendition::Object))),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some((Media::Json, Rendition::Partial)),
            ),
            ("application/vnd.kubernetes.protobuf;stream=watch", Some((Media::Protobuf, Rendition::Object))),
            ("text/html, application/vnd.kubernetes.protobuf", Some((Media::Protobuf, Rendition::Object))),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", None),
            ("text/html", None),
        ];
        for (accept, want) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            let got = negotiate(&headers, &Query::default());
            assert_eq!(got.as_ref().ok().map(|n| (n.media, n.rendition)), want, "{accept}");
            if let Err(s) = got {
                assert_eq!(s.code, 406);
            }
        }
    }
}
