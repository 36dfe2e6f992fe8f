//! A container's output.

use crate::present::body::Body;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::request::query::Query;
use crate::server::ApiServer;
use crate::subresource::target::Pod;
use futures::StreamExt;
use http::{HeaderValue, Response, header};
use kybern_api::error::{Cause, Status};
use kybern_wire::node as pb;
use kybern_wire::node::open::What;

const KIND: &str = "PodLogOptions";

/// Streams a container's log as text.
pub(crate) async fn run(server: &ApiServer, resource: &Resource, auth: &Authorized) -> Result<Response<Body>, Status> {
    let pod = Pod::of(server, resource, auth).await?;
    let logs = options(&auth.query, &pod)?;
    // What never ran has written nothing.
    if pod.node.is_empty() {
        return Ok(text(Body::empty()));
    }
    if !logs.previous {
        pod.has_begun(&logs.container)?;
    }
    let channel = server.0.nodes.open(&pod.node, What::Logs(logs)).await?;
    let drain = server.0.drain.clone().cancelled_owned();
    let chunks = channel
        .bytes()
        .filter_map(async |bytes| bytes.inspect_err(|error| tracing::debug!(%error, "log stream broke off")).ok());
    Ok(text(Body::frames(chunks.take_until(drain).boxed())))
}

fn text(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// Reads and checks the parameters.
fn options(query: &Query, pod: &Pod) -> Result<pb::Logs, Status> {
    let mut causes = Vec::new();
    let mut at_least = |field: &str, least: i64| -> Result<Option<i64>, Status> {
        let value = query.integer(field)?;
        if let Some(v) = value.filter(|v| *v < least) {
            let than = if least == 0 { "greater than or equal to 0" } else { "greater than 0" };
            causes.push(cause("FieldValueInvalid", field, format!("Invalid value: {v}: must be {than}")));
        }
        Ok(value)
    };
    let (tail_lines, limit_bytes) = (at_least("tailLines", 0)?, at_least("limitBytes", 1)?);
    let since_seconds = at_least("sinceSeconds", 1)?;
    let since_time = query.get("sinceTime").map(str::to_owned);
    if since_seconds.is_some() && since_time.is_some() {
        let text = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified";
        causes.push(cause("FieldValueForbidden", "", text.into()));
    }
    if let Some(time) = &since_time
        && time.parse::<jiff::Timestamp>().is_err()
    {
        return Err(Status::bad_request(format!("sinceTime: \"{time}\" is no RFC 3339 time")));
    }
    let stream = query.get("stream").unwrap_or("All");
    if !matches!(stream, "All" | "Stdout" | "Stderr") {
        let text = format!("Unsupported value: \"{stream}\": supported values: \"All\", \"Stderr\", \"Stdout\"");
        causes.push(cause("FieldValueNotSupported", "stream", text));
    }
    if !causes.is_empty() {
        return Err(Status::invalid("", KIND, &pod.name, causes));
    }
    Ok(pb::Logs {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        container: pod.container(query.get("container"))?,
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        since_seconds,
        since_time,
        tail_lines,
        limit_bytes,
        stream: stream.to_owned(),
    })
}

fn cause(reason: &str, field: &str, message: String) -> Cause {
    Cause { reason: reason.into(), message, field: field.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str) -> Result<pb::Logs, String> {
        options(&Query::parse(Some(query)), &Pod::with_containers("web", &["c"])).map_err(|s| s.message)
    }

    #[test]
    fn parameters_are_read() {
        let logs =
            check("follow=true&previous=0&timestamps=true&tailLines=0&sinceSeconds=5&limitBytes=9").expect("valid");
        assert_eq!((logs.follow, logs.previous, logs.timestamps), (true, false, true));
        assert_eq!((logs.tail_lines, logs.since_seconds, logs.limit_bytes), (Some(0), Some(5), Some(9)));
        assert_eq!((logs.container.as_str(), logs.stream.as_str()), ("c", "All"));
    }

    #[test]
    fn bad_parameters_are_named() {
        let cases = [
            ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
            ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=1&sinceTime=2024-01-01T00:00:00Z", "at most one of"),
            ("sinceTime=yesterday", "is no RFC 3339 time"),
            ("tailLines=x", "is no integer"),
            ("stream=Stdin", "Unsupported value: \"Stdin\""),
            ("container=x", "container x is not valid for pod web"),
        ];
        for (query, part) in cases {
            let message = check(query).expect_err(query);
            assert!(message.contains(part), "{query}: {message}");
        }
    }
}
