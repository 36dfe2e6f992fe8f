//! Kubeconfigs of administrators: made with a server's keys, and renewed in place.

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use kybern_api::certificates::renew_at;
use kybern_authn::pki::{self, ClusterKeys, write_private};
use serde_json::Value;
use std::path::Path;

/// Writes the administrator's kubeconfig.
///
/// # Errors
/// When the certificate can't be made or the file not be written.
pub fn create(path: &Path, cluster: &str, server: &str, keys: &ClusterKeys, now: Timestamp) -> Result<()> {
    let made = pki::Kubeconfig {
        cluster,
        server,
        ca: &keys.server_ca.certificate_pem(),
        user: "kybern-admin",
        identity: &keys.admin_certificate(now)?,
    };
    Ok(made.write(path)?)
}

/// Brings the current context of a kubeconfig up to date, where it is one of this cluster: the CAs, and a
/// certificate that is past 80 % of its life or that the issuing CA has not signed. Everything else in the
/// file stays. True: it was changed.
///
/// # Errors
/// When the file can't be read or written.
pub fn renew(path: &Path, keys: &ClusterKeys, now: Timestamp) -> Result<bool> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut config: Value = serde_saphyr::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
    if !bring_up_to_date(&mut config, keys, now)? {
        return Ok(false);
    }
    write_private(path, serde_saphyr::to_string(&config)?.as_bytes(), false)?;
    tracing::info!(path = %path.display(), "renewed the kubeconfig");
    Ok(true)
}

fn bring_up_to_date(config: &mut Value, keys: &ClusterKeys, now: Timestamp) -> Result<bool> {
    let current = text(&config["current-context"]);
    let Some(context) = entry(config, "contexts", &current).map(|e| e["context"].clone()) else { return Ok(false) };
    let Some(cluster) = entry(config, "clusters", &text(&context["cluster"])) else { return Ok(false) };
    let believed = decode(&cluster["cluster"]["certificate-authority-data"]);
    let ours = |pem: &String| {
        let known = |c: &rustls::pki_types::CertificateDer<'_>| keys.knows_server_ca(&pki::fingerprint(c));
        pki::certificates(pem).is_ok_and(|list| list.iter().any(known))
    };
    let Some(believed) = believed.filter(ours) else { return Ok(false) };
    let present = keys.server_ca.certificate_pem();
    let mut changed = believed != present;
    cluster["cluster"]["certificate-authority-data"] = STANDARD.encode(&present).into();
    let Some(user) = entry(config, "users", &text(&context["user"])) else { return Ok(changed) };
    if let Some(chain) = decode(&user["user"]["client-certificate-data"])
        && is_old(&chain, keys, now)
        && let Some(issued) = keys.reissue(&chain, now)?
    {
        user["user"]["client-certificate-data"] = STANDARD.encode(&issued.chain).into();
        user["user"]["client-key-data"] = STANDARD.encode(&issued.key).into();
        changed = true;
    }
    Ok(changed)
}

/// Does a new certificate have to take its place? Its chain ends in the CA that signed it.
fn is_old(chain: &str, keys: &ClusterKeys, now: Timestamp) -> bool {
    let Ok(list) = pki::certificates(chain) else { return false };
    let by_issuing = list.last().is_some_and(|ca| ca == keys.client_ca.der());
    let due = list.first().and_then(|leaf| pki::validity(leaf).ok()).map(|(from, until)| renew_at(from, until));
    !by_issuing || due.is_some_and(|due| due <= now)
}

fn entry<'a>(config: &'a mut Value, list: &str, name: &str) -> Option<&'a mut Value> {
    config[list].as_array_mut()?.iter_mut().find(|e| e["name"] == name)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn decode(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_client::kubeconfig::Kubeconfig;

    const YEAR: i64 = 365 * 86_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + seconds).unwrap()
    }

    fn parts(path: &Path) -> (String, String) {
        let config = Kubeconfig::load(path).unwrap();
        let of = |data: &Option<String>| decode(&data.clone().unwrap().into()).unwrap();
        let user = &config.users[0].entry.user;
        (of(&config.clusters[0].entry.cluster.certificate_authority_data), of(&user.client_certificate_data))
    }

    #[test]
    fn a_kubeconfig_is_renewed_when_it_grows_old_and_through_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let keys = ClusterKeys::create(at(0)).unwrap();
        create(&path, "kybern", "https://10.0.0.1:6443", &keys, at(0)).unwrap();
        let first = parts(&path);
        assert!(!renew(&path, &keys, at(YEAR / 2)).unwrap(), "nothing to do");
        assert!(renew(&path, &keys, at(2 * YEAR)).unwrap(), "it expired while nobody was there");
        let second = parts(&path);
        assert!(second.0 == first.0 && second.1 != first.1);
        assert_eq!(Kubeconfig::load(&path).unwrap().clusters[0].entry.cluster.server, "https://10.0.0.1:6443");
        let announced = keys.announce("a", at(2 * YEAR)).unwrap();
        assert!(renew(&path, &announced, at(2 * YEAR)).unwrap());
        assert_eq!(parts(&path), (announced.server_ca.certificate_pem(), second.1.clone()), "both CAs, the same user");
        let switched = announced.switch().unwrap();
        assert!(renew(&path, &switched, at(2 * YEAR)).unwrap());
        assert_ne!(parts(&path).1, second.1);
        let dropped = switched.drop_old().unwrap();
        assert!(renew(&path, &dropped, at(2 * YEAR)).unwrap() && !renew(&path, &dropped, at(2 * YEAR)).unwrap());
        assert_eq!(parts(&path).0, dropped.server_ca.certificate_pem());
        Kubeconfig::load(&path).unwrap().connection().expect("a usable connection");
    }

    #[test]
    fn other_clusters_and_other_entries_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let (keys, other) = (ClusterKeys::create(at(0)).unwrap(), ClusterKeys::create(at(0)).unwrap());
        create(&path, "c", "https://h:1", &other, at(0)).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        assert!(!renew(&path, &keys, at(5 * YEAR)).unwrap(), "another cluster's");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        create(&path, "c", "https://h:1", &keys, at(0)).unwrap();
        let mut config: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        config["preferences"] = serde_json::json!({"colors": true});
        config["users"].as_array_mut().unwrap().push(serde_json::json!({"name": "x", "user": {"token": "t"}}));
        assert!(bring_up_to_date(&mut config, &keys, at(5 * YEAR)).unwrap());
        assert_eq!(
            (&config["preferences"]["colors"], &config["users"][1]["user"]["token"]),
            (&true.into(), &"t".into())
        );
        let mut broken = serde_json::json!({"current-context": "none"});
        assert!(!bring_up_to_date(&mut broken, &keys, at(0)).unwrap());
    }
}
