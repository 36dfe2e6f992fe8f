//! Parties outside the cluster: issuers of tokens and a webhook, who know users, and a webhook for the audit log.

use crate::roles::server::DOMAIN;
use anyhow::{Context, Result, anyhow, bail};
use kybern_authn::TokenConfig;
use kybern_authn::oidc::AuthenticationConfiguration;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a webhook's answer holds unless told otherwise.
const TTL: &str = "2m";

/// What was given.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    pub(super) issuers: Option<PathBuf>,
    pub(super) webhook: Option<PathBuf>,
    pub(super) ttl: Option<String>,
    pub(super) audit: Option<PathBuf>,
}

/// Who else is believed, or told.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// Issuers of tokens.
    pub issuers: Option<AuthenticationConfiguration>,
    /// The kubeconfig of the webhook, and how long its answers hold.
    pub webhook: Option<(PathBuf, Duration)>,
    /// The kubeconfig of a webhook that is told who did what.
    pub audit: Option<PathBuf>,
}

pub(super) fn resolve(given: Given) -> Result<Outside> {
    let ttl = given.ttl.as_deref().unwrap_or(TTL);
    let parsed: jiff::SignedDuration =
        ttl.parse().with_context(|| format!("--authentication-token-webhook-cache-ttl {ttl}: must be like 2m"))?;
    let Ok(ttl) = Duration::try_from(parsed) else {
        bail!("--authentication-token-webhook-cache-ttl {ttl}: must not be negative");
    };
    let files =
        [("authentication-token-webhook-config-file", &given.webhook), ("audit-webhook-config-file", &given.audit)];
    for (flag, path) in files {
        if let Some(path) = path.as_deref().filter(|p| !p.is_file()) {
            bail!("--{flag} {}: there is no such file", path.display());
        }
    }
    Ok(Outside {
        issuers: given.issuers.as_deref().map(issuers).transpose()?,
        webhook: given.webhook.map(|path| (path, ttl)),
        audit: given.audit,
    })
}

fn issuers(path: &Path) -> Result<AuthenticationConfiguration> {
    let about = || format!("--authentication-config {}", path.display());
    let text = std::fs::read_to_string(path).with_context(about)?;
    let config: AuthenticationConfiguration = serde_saphyr::from_str(&text).with_context(about)?;
    let own = TokenConfig::for_domain(DOMAIN).issuer;
    config.check(&own).map_err(|why| anyhow!("{}: {why}", about()))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_has_to_be_there_and_good() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        let said = |given: Given| format!("{:#}", resolve(given).unwrap_err());
        assert!(resolve(Given::default()).unwrap().issuers.is_none());
        let given = |path: &Path| Given { issuers: Some(path.to_owned()), ..Given::default() };
        assert!(said(given(&file)).contains("--authentication-config"));
        std::fs::write(&file, "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: []\n")
            .unwrap();
        assert!(resolve(given(&file)).unwrap().issuers.is_some());
        std::fs::write(&file, "apiVersion: v1\nkind: Pod\n").unwrap();
        assert!(said(given(&file)).contains("must be AuthenticationConfiguration"));
        let hook = |ttl: &str| Given { webhook: Some(file.clone()), ttl: Some(ttl.into()), ..Given::default() };
        assert_eq!(resolve(hook("10s")).unwrap().webhook.unwrap().1, Duration::from_secs(10));
        assert!(said(hook("-1s")).contains("negative") && said(hook("soon")).contains("must be like"));
        let missing = Given { webhook: Some("/nonexistent".into()), ..Given::default() };
        assert!(said(missing).contains("no such file"));
    }
}
