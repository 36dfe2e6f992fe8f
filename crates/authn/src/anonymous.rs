//! Requests without any credential: only health checks.

use crate::authenticator::{Authenticator, Credentials, Outcome};
use kybern_api::attributes::UserInfo;
use kybern_api::seam::Lister;

/// The paths (and everything below them) that need no credential.
pub const HEALTH_PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Is this one of [`HEALTH_PATHS`], or below one?
pub fn is_health_path(path: &str) -> bool {
    let under = |root: &&str| path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // a path that a later layer could read as another one is no health path
    let plain = !path.contains("..") && !path.contains('%');
    plain && HEALTH_PATHS.iter().any(under)
}

/// Lets nobody in, except to [`HEALTH_PATHS`].
#[derive(Debug, Default, Clone, Copy)]
pub struct Anonymous;

impl Authenticator for Anonymous {
    fn authenticate(&self, credentials: &Credentials<'_>, _objects: &dyn Lister) -> Outcome {
        if !is_health_path(credentials.path) {
            return Outcome::NoOpinion;
        }
        Outcome::Known(UserInfo {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..UserInfo::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NoObjects;

    #[test]
    fn only_health_paths_pass() {
        for (path, passes) in [
            ("/healthz", true),
            ("/livez/ping", true),
            ("/readyz/", true),
            ("/healthzz", false),
            ("/healthz/../api", false),
            ("/healthz/%2e%2e/api", false),
            ("/version", false),
            ("/api", false),
            ("", false),
        ] {
            let credentials = Credentials { path, ..Credentials::default() };
            let outcome = Anonymous.authenticate(&credentials, &NoObjects);
            assert_eq!(matches!(outcome, Outcome::Known(_)), passes, "{path}");
        }
    }
}
