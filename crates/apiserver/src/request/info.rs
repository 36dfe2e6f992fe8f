//! What a request asks for, read from its method and path.

use crate::request::query::Query;
use http::Method;
use kybern_api::attributes::Attributes;
use kybern_api::error::Status;

/// What is to be done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// GET of an item.
    Get,
    /// GET of a collection.
    List,
    /// GET of a collection with `watch=true`.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of an item.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
    /// Another method: no resource serves it.
    Other,
}

impl Verb {
    /// The word of authorisation rules and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Other => "other",
        }
    }

    /// The word of metrics.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::List => "LIST",
            Self::Watch => "WATCH",
            Self::Create => "POST",
            Self::Update => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::DeleteCollection => "DELETECOLLECTION",
            Self::Other => "OTHER",
        }
    }

    /// Does it change something?
    pub fn mutates(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch | Self::Other)
    }
}

/// A parsed request line.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    /// The verb; meaningless for a path request.
    pub verb: Verb,
    /// What authorisation will judge, without the user.
    pub attributes: Attributes,
    /// Query parameters.
    pub query: Query,
    /// What follows a subresource that passes on a path (proxy), with its leading slash, or empty.
    pub tail: String,
}

impl RequestInfo {
    /// Reads a request line.
    ///
    /// # Errors
    /// 400 for a path segment that could be mistaken for another path.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Status> {
        let query = Query::parse(query);
        let Some(parts) = Parts::of(path)? else { return Ok(Self::path(method, path, query)) };
        Ok(parts.into_info(method, query))
    }

    fn path(method: &Method, path: &str, query: Query) -> Self {
        let verb = method.as_str().to_ascii_lowercase();
        let attributes = Attributes { verb, path: path.to_owned(), ..Attributes::default() };
        Self { verb: Verb::Other, attributes, query, tail: String::new() }
    }

    /// Does it take as long as the client likes?
    pub fn long_running(&self) -> bool {
        let streams = matches!(self.attributes.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy");
        let follows = self.attributes.subresource == "log" && self.query.flag("follow");
        self.verb == Verb::Watch || streams || follows
    }

    /// The namespace of stored objects: a namespace object itself lies in none.
    pub fn storage_namespace(&self) -> &str {
        if is_namespace_itself(&self.attributes) { "" } else { &self.attributes.namespace }
    }
}

fn is_namespace_itself(a: &Attributes) -> bool {
    a.group.is_empty() && a.resource == NAMESPACES && a.namespace == a.name
}

/// The path word that scopes what follows to one namespace.
const NAMESPACES: &str = "namespaces";
/// Subresources of a namespace object; any other word after its name is a resource inside it.
const OF_A_NAMESPACE: [&str; 2] = ["status", "finalize"];

#[derive(Debug, Default)]
struct Parts {
    group: String,
    version: String,
    namespace: String,
    resource: String,
    name: String,
    subresource: String,
    tail: String,
    watch: bool,
}

impl Parts {
    /// None: the path names no resource.
    fn of(path: &str) -> Result<Option<Self>, Status> {
        let mut segments = path.trim_start_matches('/').split('/').filter(|s| !s.is_empty()).peekable();
        let mut p = Self::default();
        match segments.next() {
            Some("api") => {}
            Some("apis") => match segments.next() {
                Some(g) => p.group = segment(g)?,
                None => return Ok(None),
            },
            _ => return Ok(None),
        }
        let Some(version) = segments.next() else { return Ok(None) };
        p.version = segment(version)?;
        p.watch = segments.next_if_eq(&"watch").is_some();
        let Some(first) = segments.next() else { return Ok(None) };
        let first = segment(first)?;
        if first == NAMESPACES {
            let Some(ns) = segments.next() else {
                p.resource = first;
                return Ok(Some(p));
            };
            p.namespace = segment(ns)?;
            match segments.next() {
                Some(s) if !OF_A_NAMESPACE.contains(&s) => p.resource = segment(s)?,
                sub => {
                    p.resource = first;
                    p.name = p.namespace.clone();
                    p.subresource = sub.unwrap_or_default().to_owned();
                    return Ok(Some(p));
                }
            }
        } else {
            p.resource = first;
        }
        if let Some(n) = segments.next() {
            p.name = segment(n)?;
        }
        if let Some(s) = segments.next() {
            p.subresource = segment(s)?;
            // `s` is a part of `path`: what follows it is passed on as it was sent.
            let end = s.as_ptr() as usize - path.as_ptr() as usize + s.len();
            p.tail = path[end..].to_owned();
        }
        Ok(Some(p))
    }

    fn into_info(self, method: &Method, query: Query) -> RequestInfo {
        let watch = self.watch || query.flag("watch");
        let verb = match *method {
            Method::GET | Method::HEAD if self.watch || self.name.is_empty() && watch => Verb::Watch,
            Method::GET | Method::HEAD if self.name.is_empty() => Verb::List,
            Method::GET | Method::HEAD => Verb::Get,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if self.name.is_empty() => Verb::DeleteCollection,
            Method::DELETE => Verb::Delete,
            _ => Verb::Other,
        };
        let mut attributes = Attributes {
            verb: verb.as_str().to_owned(),
            group: self.group,
            version: self.version,
            resource: self.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            ..Attributes::default()
        };
        if matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
            attributes.field_selector = query.get("fieldSelector").unwrap_or_default().to_owned();
            attributes.label_selector = query.get("labelSelector").unwrap_or_default().to_owned();
            if let Some(name) = single_name(&attributes.field_selector) {
                attributes.name = name.to_owned();
            }
        }
        RequestInfo { verb, attributes, query, tail: self.tail }
    }
}

/// The name a field selector pins, so that rules on one object cover its list and watch.
pub(crate) fn single_name(selector: &str) -> Option<&str> {
    selector.split(',').find_map(|t| {
        let value = t.strip_prefix("metadata.name=")?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (!value.is_empty() && !value.contains('\\')).then_some(value)
    })
}

/// Decodes one path segment and refuses what could be taken for another path.
fn segment(raw: &str) -> Result<String, Status> {
    let refuse =
        || Status::bad_request(format!("invalid path segment: {:?}", raw.chars().take(64).collect::<String>()));
    let decoded = percent_encoding::percent_decode_str(raw).decode_utf8().map_err(|_| refuse())?;
    if decoded == "." || decoded == ".." || decoded.contains(['/', '%', '\0']) {
        return Err(refuse());
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(method: &str, uri: &str) -> String {
        let uri: http::Uri = uri.parse().expect("a test uri");
        let method = Method::from_bytes(method.as_bytes()).expect("a test method");
        match RequestInfo::parse(&method, uri.path(), uri.query()) {
            Err(s) => format!("{}", s.code),
            Ok(i) if !i.attributes.is_resource() => format!("path {} {}", i.attributes.verb, i.attributes.path),
            Ok(i) => {
                let a = &i.attributes;
                let mut s =
                    format!("{} {}/{} {} ns={} name={}", a.verb, a.group, a.version, a.resource, a.namespace, a.name);
                if !a.subresource.is_empty() {
                    s += &format!(" sub={}{}", a.subresource, i.tail);
                }
                s
            }
        }
    }

    #[test]
    fn request_lines() {
        let cases = [
            ("GET", "/api/v1/pods", "list /v1 pods ns= name="),
            ("GET", "/api/v1/pods?watch=1", "watch /v1 pods ns= name="),
            ("GET", "/api/v1/pods?watch=false", "list /v1 pods ns= name="),
            ("GET", "/api/v1/watch/namespaces/a/pods", "watch /v1 pods ns=a name="),
            ("GET", "/api/v1/namespaces/a/pods/b", "get /v1 pods ns=a name=b"),
            ("PUT", "/api/v1/namespaces/a/pods/b/status", "update /v1 pods ns=a name=b sub=status"),
            ("GET", "/api/v1/namespaces", "list /v1 namespaces ns= name="),
            ("DELETE", "/api/v1/namespaces/a", "delete /v1 namespaces ns=a name=a"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update /v1 namespaces ns=a name=a sub=finalize"),
            ("POST", "/apis/apps/v1/namespaces/a/deployments", "create apps/v1 deployments ns=a name="),
            ("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection apps/v1 deployments ns=a name="),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list /v1 pods ns= name=x"),
            ("GET", "/api/v1/namespaces/a/services/b/proxy/x/y", "get /v1 services ns=a name=b sub=proxy/x/y"),
            ("GET", "/api/v1/namespaces/proxy/services/b/proxy", "get /v1 services ns=proxy name=b sub=proxy"),
            ("GET", "/healthz", "path get /healthz"),
            ("GET", "/apis/apps", "path get /apis/apps"),
            ("GET", "/apis/apps/v1", "path get /apis/apps/v1"),
            ("GET", "/api/v1/namespaces/a/pods/..%2fb", "400"),
            ("GET", "/api/v1/namespaces/%2e%2e/pods", "400"),
            ("GET", "/api/v1/namespaces/a%00/pods", "400"),
            ("OPTIONS", "/api/v1/pods", "other /v1 pods ns= name="),
        ];
        for (method, uri, want) in cases {
            assert_eq!(line(method, uri), want, "{method} {uri}");
        }
    }
}
