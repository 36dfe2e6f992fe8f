//! Certificates by the host that a client names, exchanged while connections go on.

use crate::routes::wildcard;
use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kybern_api::object::Object;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use smol_str::SmolStr;
use std::collections::HashMap;
use std::sync::Arc;

/// Why a Secret holds no certificate that can be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no Secret.
    #[error("it cannot be read")]
    Decode(#[from] serde_json::Error),
    /// A key is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A key's value is not base64.
    #[error("its {0} is not base64")]
    Base64(&'static str, #[source] base64::DecodeError),
    /// A key's value is not PEM.
    #[error("its {0} is not PEM")]
    Pem(&'static str, #[source] std::io::Error),
    /// A PEM has nothing of the kind.
    #[error("its {0} holds none")]
    Empty(&'static str),
    /// Certificate and key cannot be used together.
    #[error("certificate and key do not fit")]
    Unfit(#[source] rustls::Error),
}

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

#[derive(Deserialize)]
struct Secret {
    #[serde(default)]
    data: HashMap<String, String>,
}

/// The certificate in a Secret.
///
/// # Errors
/// What is wrong with it.
pub fn certificate(secret: &Object, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let secret: Secret = secret.view()?;
    let pem = |key: &'static str| {
        let text = secret.data.get(key).ok_or(Error::Missing(key))?;
        STANDARD.decode(text).map_err(|e| Error::Base64(key, e))
    };
    let chain: Vec<CertificateDer<'static>> = rustls_pemfile::certs(&mut pem(CERTIFICATE)?.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|e| Error::Pem(CERTIFICATE, e))?;
    if chain.is_empty() {
        return Err(Error::Empty(CERTIFICATE));
    }
    let key = rustls_pemfile::private_key(&mut pem(KEY)?.as_slice()).map_err(|e| Error::Pem(KEY, e))?;
    CertifiedKey::from_der(chain, key.ok_or(Error::Empty(KEY))?, provider).map_err(Error::Unfit)
}

/// The certificates by host; a name with `*.` stands for one label.
#[derive(Debug, Default)]
pub struct Certificates {
    by_host: ArcSwap<HashMap<SmolStr, Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Replaces all.
    pub fn set(&self, by_host: HashMap<SmolStr, Arc<CertifiedKey>>) {
        self.by_host.store(Arc::new(by_host));
    }
    /// The certificate of a host.
    pub fn find(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let all = self.by_host.load();
        all.get(host).or_else(|| all.get(&*wildcard(host)?)).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(&hello.server_name()?.to_ascii_lowercase())
    }
}

/// How TLS is spoken: the newest versions, HTTP/2 or HTTP/1.1.
///
/// # Errors
/// When the provider lacks what these versions need.
pub fn server(
    certificates: Arc<Certificates>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
