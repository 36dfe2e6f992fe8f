//! The node's client certificate: asked for with a bootstrap token, kept on disk, renewed in time.

use crate::error::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kybern_api::certificates;
use kybern_api::error::Reason;
use kybern_api::seam::{Clock, Ids};
use kybern_client::informer::Informer;
use kybern_client::store::Name;
use kybern_client::transport::{Resource, Selection, Transport};
use kybern_client::write::{At, Writer};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// A key and the certificate for it.
#[derive(Clone)]
pub struct Credential {
    certificate: String,
    key: String,
    from: Timestamp,
    until: Timestamp,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential(until {})", self.until)
    }
}

fn bad(why: impl std::fmt::Display) -> Error {
    Error::Certificate(why.to_string())
}

impl Credential {
    /// From PEM.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn new(certificate: String, key: String) -> Result<Self> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).map_err(bad)?;
        let validity = pem.parse_x509().map_err(bad)?.validity().clone();
        let time = |t: x509_parser::time::ASN1Time| Timestamp::from_second(t.timestamp()).map_err(bad);
        Ok(Self { from: time(validity.not_before)?, until: time(validity.not_after)?, certificate, key })
    }
    /// When to ask for the next.
    pub fn renew_at(&self) -> Timestamp {
        certificates::renew_at(self.from, self.until)
    }
    /// Can it (still) be used?
    pub fn is_valid(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

/// Where the credential is kept, readable by its owner alone.
#[derive(Debug, Clone)]
pub struct Store {
    file: PathBuf,
}

impl Store {
    /// In this directory.
    pub fn new(dir: &Path) -> Self {
        Self { file: dir.join("node.pem") }
    }
    /// What is kept, if it can be read.
    pub fn load(&self) -> Option<Credential> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        let at = text.find("-----BEGIN PRIVATE KEY")?;
        Credential::new(text[..at].to_owned(), text[at..].to_owned()).ok()
    }
    /// Keeps it; certificate and key change together.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, credential: &Credential) -> Result<()> {
        let dir = self.file.parent().unwrap_or(&self.file);
        std::fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        let next = self.file.with_extension("new");
        let _ = std::fs::remove_file(&next);
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
            file.write_all(format!("{}\n{}", credential.certificate.trim(), credential.key).as_bytes())?;
            file.sync_all()
        };
        write().map_err(Error::file("write", &next))?;
        std::fs::rename(&next, &self.file).map_err(Error::file("replace", &self.file))
    }
}

/// TLS towards the servers: trusts `ca` (PEM), shows the credential where there is one.
///
/// # Errors
/// When the PEM does not hold what it should.
pub fn tls(ca: &str, credential: Option<&Credential>) -> Result<Arc<ClientConfig>> {
    let certificates = |pem: &str| -> Result<Vec<CertificateDer<'static>>> {
        rustls_pemfile::certs(&mut pem.as_bytes()).collect::<std::io::Result<_>>().map_err(bad)
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(bad)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(bad)?
        .with_root_certificates(roots);
    let mut config = match credential {
        None => builder.with_no_client_auth(),
        Some(c) => {
            let key: PrivateKeyDer<'static> = rustls_pemfile::private_key(&mut c.key.as_bytes())
                .map_err(bad)?
                .ok_or_else(|| bad("the file holds no private key"))?;
            builder.with_client_auth_cert(certificates(&c.certificate)?, key).map_err(bad)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// A key and a certificate signing request for it, both PEM.
fn request(node: &str) -> Result<(String, String)> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(bad)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(bad)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let csr = params.serialize_request(&key).and_then(|r| r.pem()).map_err(bad)?;
    Ok((key.serialize_pem(), csr))
}

/// A cluster that has just begun may not know the token or its roles yet.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries in that time.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Posts the request; a refusal is final only after a while.
async fn ask(writer: &Writer, at: At<'_>, body: &serde_json::Value) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match writer.create(at, body).await {
            Err(s)
                if matches!(s.reason, Reason::Unauthorized | Reason::Forbidden)
                    && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            done => return Ok(done.map(drop)?),
        }
    }
}

/// Asks for a certificate and waits until it is approved and signed.
///
/// # Errors
/// When the request is refused or denied.
pub async fn obtain(transport: Arc<dyn Transport>, node: &str, ids: &dyn Ids) -> Result<Credential> {
    use base64::Engine;
    let (key, csr) = request(node)?;
    let name = format!("node-csr-{}", ids.uid());
    let resource = Resource::new("certificates.k8s.io", "v1", "certificatesigningrequests");
    let body = json!({
        "kind": "CertificateSigningRequest", "apiVersion": "certificates.k8s.io/v1",
        "metadata": { "name": name },
        "spec": {
            "request": base64::engine::general_purpose::STANDARD.encode(csr),
            "signerName": SIGNER,
            "usages": ["digital signature", "client auth"],
        },
    });
    let at = At { resource: &resource, namespace: "", name: "", subresource: "" };
    ask(&Writer::new(transport.clone(), "kybern-agent", 0), at, &body).await?;
    let selection = Selection { fields: format!("metadata.name={name}"), ..Selection::default() };
    let cancel = CancellationToken::new();
    let _watch = cancel.clone().drop_guard();
    let informer = Informer::start(transport, resource, selection, None, cancel);
    let name = Name::new("", name);
    let answer = |csr: CertificateSigningRequest| {
        let status = csr.status.unwrap_or_default();
        let refused = status.conditions.into_iter().flatten().find(|c| matches!(c.type_.as_str(), "Denied" | "Failed"));
        match (status.certificate, refused) {
            (Some(pem), _) => Some(Ok(pem.0)),
            (None, Some(c)) => Some(Err(bad(format!("the request was refused: {}", c.message.unwrap_or(c.type_))))),
            (None, None) => None,
        }
    };
    let get = |store: &kybern_client::store::Store| answer(store.get(&name)?.object.view().ok()?);
    informer.until(|store| get(store).is_some()).await;
    let pem = get(&informer.store()).unwrap_or_else(|| Err(bad("the request vanished")))?;
    Credential::new(String::from_utf8(pem).map_err(bad)?, key)
}

/// An order to renew at once; the answer comes when the new certificate is in use. An order that fails is
/// dropped.
pub type Order = oneshot::Sender<()>;

/// What a renewal needs.
pub struct Renewal {
    /// Where credentials are kept.
    pub store: Store,
    /// The way to the API.
    pub transport: Arc<dyn Transport>,
    /// The node's name.
    pub node: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Names of requests.
    pub ids: Arc<dyn Ids>,
}

impl Renewal {
    /// Renews the credential before it expires and when ordered to, until cancelled; `replaced` takes each new
    /// one into use.
    pub async fn keep(
        self,
        mut credential: Credential,
        replaced: impl Fn(&Credential) -> Result<()> + Send,
        mut orders: mpsc::Receiver<Order>,
        cancel: CancellationToken,
    ) {
        let retry = SignedDuration::from_secs(60);
        let mut due = credential.renew_at();
        loop {
            let left = std::time::Duration::try_from(due.duration_since(self.clock.now())).unwrap_or_default();
            let order = tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(left) => None,
                Some(order) = orders.recv() => Some(order),
            };
            let asked = cancel.run_until_cancelled(obtain(self.transport.clone(), &self.node, &*self.ids)).await;
            let Some(asked) = asked else { return };
            match asked.and_then(|c| self.store.save(&c).and_then(|()| replaced(&c)).map(|()| c)) {
                Ok(c) => {
                    credential = c;
                    due = credential.renew_at();
                    // Who ordered it may have gone.
                    order.map(|order| order.send(()).ok());
                }
                Err(e) => {
                    tracing::warn!(error = %e, ?credential, "the node's certificate was not renewed");
                    due = due.max(self.clock.now() + retry);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn credential() -> Credential {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 11);
        Credential::new(params.self_signed(&key).unwrap().pem(), key.serialize_pem()).unwrap()
    }

    #[test]
    fn kept_in_private_and_renewed_at_four_fifths() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(&dir.path().join("pki"));
        assert!(store.load().is_none());
        store.save(&credential()).unwrap();
        let mode = std::fs::metadata(dir.path().join("pki/node.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = store.load().unwrap();
        assert_eq!(loaded.renew_at().to_string(), "2026-03-22T00:00:00Z");
        assert!(loaded.is_valid(loaded.renew_at()) && !loaded.is_valid("2026-05-01T00:00:00Z".parse().unwrap()));
        tls(&loaded.certificate, Some(&loaded)).unwrap();
    }

    #[test]
    fn the_request_names_the_node() {
        let (_, csr) = request("n1").unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(csr.as_bytes()).unwrap();
        let (_, csr) = <x509_parser::certification_request::X509CertificationRequest as x509_parser::prelude::FromDer<_>>::from_der(&pem.contents).unwrap();
        assert_eq!(csr.certification_request_info.subject.to_string(), "O=system:nodes, CN=system:node:n1");
    }
}
