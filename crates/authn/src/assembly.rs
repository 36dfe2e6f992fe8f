//! Everything an API server needs to know its callers, made from the cluster's keys.

use crate::anonymous::Anonymous;
use crate::authenticator::{Authenticator, Credentials, Outcome, Union};
use crate::bootstrap_token::BootstrapTokens;
use crate::error::Result;
use crate::issuer::Issuer;
use crate::pki::ClusterKeys;
use crate::service_account::ServiceAccountTokens;
use crate::x509::X509;
use kybern_api::seam::Lister;
use std::sync::Arc;

/// Names that service-account tokens carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// `iss` of every token.
    pub issuer: String,
    /// Audiences that mean this API server.
    pub audiences: Vec<String>,
}

impl TokenConfig {
    /// What clusters of this DNS domain use unless told otherwise.
    pub fn for_domain(domain: &str) -> Self {
        let issuer = format!("https://kubernetes.default.svc.{domain}");
        Self { audiences: vec![issuer.clone()], issuer }
    }
}

/// The authenticators of one API server. The parts are shared with whoever rotates keys.
#[derive(Debug)]
pub struct Assembly {
    /// Asks all of them.
    pub authenticator: Arc<Union>,
    /// Client certificates; its CAs can be replaced.
    pub x509: Arc<X509>,
    /// Service-account tokens; also answers TokenReview.
    pub tokens: Arc<ServiceAccountTokens>,
    /// Mints service-account tokens and publishes their keys.
    pub issuer: Arc<Issuer>,
}

impl Assembly {
    /// Puts the cluster's own authenticators together.
    ///
    /// # Errors
    /// At keys or certificates that cannot be used.
    pub fn new(keys: &ClusterKeys, config: &TokenConfig) -> Result<Self> {
        Self::with(keys, config, Vec::new())
    }

    /// And after them, in their order, those that ask others.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(keys: &ClusterKeys, config: &TokenConfig, outside: Vec<Box<dyn Authenticator>>) -> Result<Self> {
        let issuer = Arc::new(Issuer::new(&config.issuer, &config.audiences, &keys.service_account.0)?);
        let x509 = Arc::new(X509::new(keys.client_ca.trusted())?);
        let tokens = Arc::new(ServiceAccountTokens::new(&issuer)?);
        let mut members: Vec<Box<dyn Authenticator>> =
            vec![Box::new(Shared(x509.clone())), Box::new(Shared(tokens.clone())), Box::new(BootstrapTokens)];
        members.extend(outside);
        let authenticator = Arc::new(Union::new(members, Box::new(Anonymous)));
        Ok(Self { authenticator, x509, tokens, issuer })
    }
}

/// A member of the union that somebody else holds too.
struct Shared<A>(Arc<A>);

impl<A: Authenticator> Authenticator for Shared<A> {
    fn authenticate(&self, credentials: &Credentials<'_>, objects: &dyn Lister) -> Outcome {
        self.0.authenticate(credentials, objects)
    }
}
