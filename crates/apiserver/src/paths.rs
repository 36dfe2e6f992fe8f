//! Requests that name no resource: health, version, metrics, discovery, OpenAPI.

use crate::doors::http::page_not_found;
use crate::health;
use crate::present::body::Body;
use crate::present::negotiate::Negotiated;
use crate::present::respond;
use crate::request::chain::Authorized;
use crate::server::ApiServer;
use http::request::Parts;
use http::{Response, StatusCode};
use kybern_api::error::Status;
use serde_json::json;

/// The version this API follows, and ours.
const VERSION: (&str, &str, &str) = ("1", "36", "v1.36.0+kybern1");

/// Serves a path request.
pub(crate) async fn serve(server: &ApiServer, auth: Authorized, parts: &Parts) -> Result<Response<Body>, Status> {
    if parts.method != http::Method::GET && parts.method != http::Method::HEAD {
        return Err(Status::new(kybern_api::error::Reason::MethodNotAllowed, "method not allowed"));
    }
    let path = parts.uri.path().trim_end_matches('/');
    match path {
        "/version" => return version(),
        "/metrics" => return Ok(server.0.metrics.render(server)),
        _ => {}
    }
    if let Some(answer) = health::serve(server, path, &auth.query).await {
        return Ok(answer);
    }
    if let Some(answer) = issuer(server, path)? {
        return Ok(answer);
    }
    let address = server.0.config.advertise.to_string();
    if let Some(answer) = server.0.documents.serve(&server.0.kinds, &address, parts).await {
        return answer;
    }
    Ok(page_not_found())
}

/// Who issues service-account tokens, and the keys they are checked with.
fn issuer(server: &ApiServer, path: &str) -> Result<Option<Response<Body>>, Status> {
    const KEYS: &str = "/openid/v1/jwks";
    let Some(issuer) = &server.0.issuer else { return Ok(None) };
    let (tree, media) = match path {
        KEYS => (issuer.jwks().map_err(|e| Status::internal(e.to_string()))?, "application/jwk-set+json"),
        "/.well-known/openid-configuration" => {
            (issuer.discovery(&format!("https://{}{KEYS}", server.0.config.advertise)), "application/json")
        }
        _ => return Ok(None),
    };
    Ok(Some(respond::response(StatusCode::OK, media, Body::full(tree.to_string()))))
}

fn version() -> Result<Response<Body>, Status> {
    let (major, minor, git) = VERSION;
    let body = json!({
        "major": major, "minor": minor, "gitVersion": git, "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
        "goVersion": "", "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, arch()),
        "emulationMajor": major, "emulationMinor": minor, "minCompatibilityMajor": major, "minCompatibilityMinor": "35",
    });
    respond::document(StatusCode::OK, body.to_string().into(), &Negotiated { pretty: true, ..Negotiated::default() })
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
