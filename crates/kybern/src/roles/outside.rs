//! The ways to those who know users that the cluster does not.

use crate::config::Outside;
use anyhow::{Context, Result};
use kybern_apiserver::audit::Webhook;
use kybern_authn::fetch::{Fetch, Fetching};
use kybern_authn::oidc::Oidc;
use kybern_authn::webhook::WebhookTokens;
use kybern_authn::{Authenticator, TokenConfig};
use kybern_client::http::{Fetcher, tls_config};
use kybern_client::kubeconfig::Kubeconfig;
use prometheus_client::registry::Registry;
use std::path::Path;
use std::sync::Arc;

/// Where machines keep the CAs that they believe.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

struct Way(Fetcher);

impl Fetch for Way {
    fn get<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        Box::pin(async move { self.0.get(url).await.map(|b| b.to_vec()) })
    }
    fn post<'a>(&'a self, url: &'a str, body: Vec<u8>) -> Fetching<'a> {
        Box::pin(async move { self.0.post(url, body.into()).await.map(|b| b.to_vec()) })
    }
}

/// Authenticators of users that others know, in the order in which they are asked.
///
/// # Errors
/// At CAs or a kubeconfig that cannot be used.
pub(super) fn authenticators(outside: &Outside, own: &TokenConfig) -> Result<Vec<Box<dyn Authenticator>>> {
    let mut members: Vec<Box<dyn Authenticator>> = Vec::new();
    if let Some(issuers) = outside.issuers.clone() {
        members.push(Box::new(Oidc::new(issuers, to_issuer).context("--authentication-config")?));
    }
    if let Some((path, ttl)) = &outside.webhook {
        let (url, way) = to_webhook("authentication-token-webhook-config-file", path)?;
        members.push(Box::new(WebhookTokens::new(&url, &own.audiences, *ttl, way)));
    }
    Ok(members)
}

/// The webhook that is told who did what.
///
/// # Errors
/// At a kubeconfig that cannot be used.
pub(super) fn audit(outside: &Outside, metrics: &mut Registry) -> Result<Option<Arc<Webhook>>> {
    let Some(path) = &outside.audit else { return Ok(None) };
    let (url, way) = to_webhook("audit-webhook-config-file", path)?;
    Ok(Some(Webhook::new(&url, way, metrics)))
}

/// The URL in the kubeconfig's current context, and the way there.
fn to_webhook(flag: &str, path: &Path) -> Result<(String, Arc<dyn Fetch>)> {
    let about = || format!("--{flag} {}", path.display());
    let connection = Kubeconfig::load(path).and_then(|k| k.connection()).with_context(about)?;
    let url = connection.servers.first().with_context(about)?.clone();
    let token = connection.token.and_then(|token| token());
    Ok((url, Arc::new(Way(Fetcher::new(connection.tls, token)))))
}

fn to_issuer(authorities: &str) -> Result<Arc<dyn Fetch>> {
    let authorities = match authorities {
        "" => machine_authorities()?,
        own => own.to_owned(),
    };
    let tls = tls_config(authorities.as_bytes(), None).context("certificateAuthority can't be used")?;
    Ok(Arc::new(Way(Fetcher::new(tls, None))))
}

fn machine_authorities() -> Result<String> {
    let found = BUNDLES.iter().find_map(|path| std::fs::read_to_string(path).ok());
    found.context("this machine has no CAs: install ca-certificates, or give the issuer a certificateAuthority")
}
