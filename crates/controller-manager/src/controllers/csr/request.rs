//! What a signing request asks for.

use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use kybern_reconcile::Error;
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// The wishes of a PKCS#10 request whose signature proves possession of its key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    pub(super) dns_names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    /// E-mail addresses, URIs or other names: never for nodes.
    pub(super) other_names: bool,
}

impl Request {
    /// Reads `spec.request` (PEM).
    pub(super) fn read(pem: &[u8]) -> Result<Self, Error> {
        let invalid = |what: &str| Error::Invalid(format!("the certificate request {what}"));
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| invalid("is not PEM"))?;
        let (_, parsed) =
            X509CertificationRequest::from_der(&block.contents).map_err(|_| invalid("cannot be parsed"))?;
        parsed.verify_signature().map_err(|_| invalid("is not signed by its own key"))?;
        let subject = &parsed.certification_request_info.subject;
        let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().unwrap_or_default().to_owned();
        let mut request = Self {
            common_name: subject.iter_common_name().map(text).collect::<Vec<_>>().join(","),
            organizations: subject.iter_organization().map(text).collect(),
            ..Self::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| request.add(name));
            }
        }
        Ok(request)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(dns) => self.dns_names.push((*dns).to_owned()),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(address) => self.addresses.push(address),
                None => self.other_names = true,
            },
            _ => self.other_names = true,
        }
    }

    /// Does it name a node, and nothing but a node?
    pub(super) fn node(&self) -> Option<&str> {
        let name = self.common_name.strip_prefix("system:node:").filter(|n| !n.is_empty())?;
        (self.organizations == ["system:nodes"]).then_some(name)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Are the usages exactly what the purpose needs? Key encipherment may come with RSA keys.
pub(super) fn usages_are(spec: &CertificateSigningRequestSpec, purpose: &str) -> bool {
    let usages: Vec<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    let has = |u: &str| usages.contains(&u);
    let known = |u: &&str| ["digital signature", "key encipherment", purpose].contains(u);
    has("digital signature") && has(purpose) && usages.iter().all(known)
}
