//! rustls settings of every connection: who shows what, and what is believed.

use crate::error::{Error, Result};
use crate::pki::{Issued, certificates};
use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::sync::Arc;

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// A certificate and key that can be replaced while connections are open.
#[derive(Debug)]
pub struct Identity(ArcSwap<CertifiedKey>);

impl Identity {
    /// From a chain and its key.
    ///
    /// # Errors
    /// At malformed PEM or a key that does not fit.
    pub fn new(issued: &Issued) -> Result<Arc<Self>> {
        Ok(Arc::new(Self(ArcSwap::from(certified(issued)?))))
    }
    /// Shown from the next handshake on.
    ///
    /// # Errors
    /// As [`Self::new`]; then nothing changes.
    pub fn replace(&self, issued: &Issued) -> Result<()> {
        self.0.store(certified(issued)?);
        Ok(())
    }
}

fn certified(issued: &Issued) -> Result<Arc<CertifiedKey>> {
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).map_err(|e| Error::malformed("key PEM", e))?;
    let signer = provider().key_provider.load_private_key(key).map_err(Error::Tls)?;
    let pair = CertifiedKey::new(certificates(&issued.chain)?, signer);
    pair.keys_match().map_err(Error::Tls)?;
    Ok(Arc::new(pair))
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// Accepts any client certificate whose key the client proves to hold, and none; whether it is trusted
/// is [`crate::X509`]'s business on every request.
#[derive(Debug)]
struct PossessionVerifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for PossessionVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The API port: HTTP/2 and HTTP/1.1, client certificates optional.
///
/// # Errors
/// When the provider lacks a protocol version.
pub fn api_server(identity: Arc<Identity>) -> Result<ServerConfig> {
    let provider = provider();
    let verifier = PossessionVerifier { algorithms: provider.signature_verification_algorithms };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// CAs whose certificates are believed, replaceable at run time: the next handshake goes by the new set.
#[derive(Debug)]
pub struct Trust(ArcSwap<Verifiers>);

#[derive(Debug)]
struct Verifiers {
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Verifiers {
    fn new(authorities: &[CertificateDer<'static>]) -> Result<Arc<Self>> {
        let roots = Arc::new(roots(authorities)?);
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider());
        Ok(Arc::new(Self {
            servers: servers.build().map_err(|e| Error::malformed("CA certificate", e))?,
            clients: clients.build().map_err(|e| Error::malformed("CA certificate", e))?,
        }))
    }
}

impl Trust {
    /// Believes these.
    ///
    /// # Errors
    /// At certificates that cannot be CAs'.
    pub fn new(authorities: &[CertificateDer<'static>]) -> Result<Arc<Self>> {
        Ok(Arc::new(Self(ArcSwap::from(Verifiers::new(authorities)?))))
    }
    /// Believes these from the next handshake on.
    ///
    /// # Errors
    /// As [`Self::new`]; then nothing changes.
    pub fn replace(&self, authorities: &[CertificateDer<'static>]) -> Result<()> {
        self.0.store(Verifiers::new(authorities)?);
        Ok(())
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        self.0.load().servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.load().servers.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.load().servers.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().servers.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Trust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // The set may change while a handshake is under way, and nobody here chooses by hints.
        &[]
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, rustls::Error> {
        self.0.load().clients.verify_client_cert(end_entity, intermediates, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.load().clients.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.load().clients.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().clients.supported_verify_schemes()
    }
}

/// The Raft port: peers show certificates of the peer CA, or nothing is said. No session is resumed: a
/// resumed one would be believed by a CA that may be gone.
///
/// # Errors
/// When the provider lacks a protocol version.
pub fn peer_server(identity: Arc<Identity>, trust: Arc<Trust>) -> Result<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_client_cert_verifier(trust)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A client that believes servers of these CAs and shows `identity` where it has one. ALPN is left to
/// the caller, who knows which protocol it speaks. No session is resumed, as in [`peer_server`].
///
/// # Errors
/// When the provider lacks a protocol version.
pub fn client(trust: Arc<Trust>, identity: Option<Arc<Identity>>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(trust);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// A client for the moment of joining, when all it knows of the cluster is the hash of its CA: it
/// believes exactly a chain to the certificate with that SHA-256, for the name it dials.
///
/// # Errors
/// When the provider lacks a protocol version.
pub fn pinned_client(ca_hash: [u8; 32]) -> Result<ClientConfig> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(ca_hash)))
        .with_no_client_auth())
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for der in authorities {
        store.add(der.clone()).map_err(Error::Tls)?;
    }
    Ok(store)
}

fn has_hash(der: &[u8], hash: [u8; 32]) -> bool {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref() == hash
}

/// Has no roots: it believes the one CA that is known by its hash. The server sends the CA's certificate along.
#[derive(Debug)]
struct Pinned([u8; 32]);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates
            .iter()
            .find(|der| has_hash(der, self.0))
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let store = roots(&[pinned.clone().into_owned()])
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
