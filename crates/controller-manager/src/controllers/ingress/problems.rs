//! What is wrong with an Ingress: reasons and messages of its events.

use k8s_openapi::api::core::v1::{Secret, Service};
use kybern_api::ingress::{Backend, Claims, Ingress, Port, Settings, order};
use kybern_reconcile::Error;
use kybern_reconcile::view::{View, decode};
use rcgen::{KeyPair, PublicKeyData};
use std::cmp::Ordering;

type Problem = (&'static str, String);

/// Do both want the same host, what nobody names, or to be the default?
pub(super) fn meet(a: &Ingress, b: &Ingress) -> bool {
    let bare = |i: &Ingress| i.rules.iter().any(|r| r.host.is_empty());
    let default = |i: &Ingress| i.rules.is_empty() && i.default.is_some();
    (bare(a) && bare(b)) || (default(a) && default(b)) || a.hosts().any(|host| b.hosts().any(|other| host == other))
}

/// Everything. `rivals` are all Ingresses that are served, this one may be among them.
pub(super) fn of<'a>(
    ingress: &Ingress,
    rivals: impl Iterator<Item = &'a Ingress>,
    view: &View,
) -> Result<Vec<Problem>, Error> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut older: Vec<&Ingress> = rivals.filter(|r| order(r, ingress) == Ordering::Less && meet(r, ingress)).collect();
    older.sort_by(|a, b| order(a, b));
    let mut claims = Claims::default();
    for rival in older {
        claims.take(rival);
    }
    problems.extend(claims.take(ingress).refused.into_iter().map(|why| ("Conflict", why)));
    let (settings, wrong) = Settings::read(&ingress.annotations);
    problems.extend(wrong.into_iter().map(|why| ("InvalidAnnotation", why)));
    for path in ingress.rules.iter().flat_map(|r| &r.paths) {
        if let Err(e) = path.expression(settings.rewrite.is_some()) {
            problems.push(("InvalidPath", format!("path {:?}: {e}", path.path)));
        }
        if path.backend.is_none() {
            problems.push(("UnsupportedBackend", format!("path {:?}: only Services can be backends", path.path)));
        }
    }
    let mut backends: Vec<&Backend> = ingress.backends().collect();
    backends.sort();
    backends.dedup();
    for backend in backends {
        problems.extend(service(backend, ingress, view)?);
    }
    for secret in ingress.secrets() {
        problems.extend(certificate(secret, ingress, view)?);
    }
    Ok(problems)
}

fn service(backend: &Backend, ingress: &Ingress, view: &View) -> Result<Option<Problem>, Error> {
    let name = &backend.service;
    let Some(service) = view.find::<Service>(&ingress.namespace, name)? else {
        return Ok(Some(("ServiceNotFound", format!("service {name:?} not found"))));
    };
    let spec = service.spec.unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Ok(Some(("UnsupportedBackend", format!("service {name:?} has no endpoints: it is an ExternalName"))));
    }
    let mut ports = spec.ports.iter().flatten();
    let (known, port) = match &backend.port {
        Port::Name(port) => (ports.any(|p| p.name.as_deref() == Some(port)), format!("{port:?}")),
        Port::Number(port) => (ports.any(|p| p.port == i32::from(*port)), port.to_string()),
    };
    Ok((!known).then(|| ("ServiceNotFound", format!("service {name:?} has no port {port}"))))
}

fn certificate(name: &str, ingress: &Ingress, view: &View) -> Result<Option<Problem>, Error> {
    let Some(item) = view.get::<Secret>(&ingress.namespace, name) else {
        return Ok(Some(("SecretNotFound", format!("secret {name:?} not found"))));
    };
    let wrong = unusable(&decode(item)?).err();
    Ok(wrong.map(|why| ("InvalidCertificate", format!("secret {name:?} holds no certificate that can be used: {why}"))))
}

/// Why a Secret's certificate cannot be shown.
fn unusable(secret: &Secret) -> Result<(), String> {
    let value = |key: &str| {
        let found = secret.data.as_ref().and_then(|d| d.get(key)).ok_or_else(|| format!("it has no {key}"))?;
        std::str::from_utf8(&found.0).map_err(|_| format!("its {key} is not PEM"))
    };
    let (certificate, key) = (value("tls.crt")?, value("tls.key")?);
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).map_err(|_| "its tls.crt is not PEM")?;
    let certificate = pem.parse_x509().map_err(|e| format!("its tls.crt: {e}"))?;
    let key = KeyPair::from_pem(key).map_err(|e| format!("its tls.key: {e}"))?;
    if certificate.public_key().subject_public_key.data != key.der_bytes() {
        return Err("certificate and key do not belong together".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use rcgen::CertificateParams;

    fn secret(entries: &[(&str, String)]) -> Secret {
        let data = entries.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.clone().into_bytes()))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn a_certificate_has_to_fit_its_key() {
        let (key, other) = (KeyPair::generate().expect("key"), KeyPair::generate().expect("key"));
        let params = CertificateParams::new(vec!["a.example.com".to_owned()]).expect("names");
        let pem = params.self_signed(&key).expect("signed").pem();
        let judge = |certificate: &str, key: &str| {
            unusable(&secret(&[("tls.crt", certificate.to_owned()), ("tls.key", key.to_owned())]))
        };
        assert_eq!(judge(&pem, &key.serialize_pem()), Ok(()));
        let why = judge(&pem, &other.serialize_pem()).expect_err("another key");
        assert_eq!(why, "certificate and key do not belong together");
        assert_eq!(judge("x", &key.serialize_pem()), Err("its tls.crt is not PEM".to_owned()));
        assert!(judge(&pem, "x").expect_err("no key").starts_with("its tls.key"));
        assert_eq!(unusable(&secret(&[])), Err("it has no tls.crt".to_owned()));
    }
}
