//! `kybern kubeconfig`, `kybern certificate` and `kybern auth`: users, their certificates, their rights.

use super::rotate;
use crate::cli::{AuthCommand, CertificateCommand, KubeconfigCommand};
use crate::keys;
use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use kybern_api::seam::{Clock, SystemClock};
use kybern_authn::pki::{self, ClusterKeys};
use kybern_authn::{revocation, tls};
use kybern_client::http::{HttpConfig, HttpTransport};
use kybern_client::kubeconfig::Kubeconfig;
use kybern_client::transport::{MERGE_PATCH, Resource, Selection, Target, Transport, Write};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Groups whose members may do everything, or act as a part of the cluster. Nobody's rights could be taken
/// from such a certificate but by revoking it.
const RESERVED: &str = "system:";

/// Runs a `kybern kubeconfig` command.
///
/// # Errors
/// One line with the cause and what to do.
pub fn kubeconfig(command: KubeconfigCommand) -> Result<()> {
    let KubeconfigCommand::Create { user, groups, expires, output, reserved, data_dir, kubeconfig } = command;
    let system = std::iter::once(&user).chain(&groups).find(|name| name.starts_with(RESERVED));
    if let Some(name) = system.filter(|_| !reserved) {
        bail!("{name}: names that begin with system: are the cluster's own; say --reserved if it is meant");
    }
    let now = SystemClock::default().now();
    let lifetime = lifetime(&expires)?;
    let keys = keys_of(&data_dir)?;
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let identity = keys.client_certificate(&user, &groups, now, lifetime)?;
    let connection = Kubeconfig::load(&kubeconfig)?.connection()?;
    let server = connection.servers.first().context("the kubeconfig names no server")?;
    let made = pki::Kubeconfig {
        cluster: "kybern",
        server,
        ca: &keys.server_ca.certificate_pem(),
        user: &user,
        identity: &identity,
    };
    match output {
        Some(path) => {
            made.write(&std::path::absolute(&path)?).with_context(|| format!("cannot write {}", path.display()))
        }
        None => {
            print!("{}", made.to_yaml());
            Ok(())
        }
    }
}

/// Runs a `kybern certificate` command.
///
/// # Errors
/// One line with the cause and what to do; also when `check` finds something.
pub fn certificate(command: CertificateCommand) -> Result<()> {
    match command {
        CertificateCommand::List { data_dir } => {
            let keys = keys_of(&data_dir)?;
            println!("{:<10} {:<26} {:<10} FINGERPRINT", "CA", "EXPIRES", "USE");
            for (name, ca) in keys.authorities() {
                for (i, der) in ca.trusted().iter().enumerate() {
                    let (until, used) = (pki::validity(der)?.1.to_string(), if i == 0 { "signs" } else { "trusted" });
                    println!("{name:<10} {until:<26} {used:<10} {}", pki::fingerprint(der));
                }
            }
            Ok(())
        }
        CertificateCommand::Check { within, data_dir } => {
            let (keys, within) = (keys_of(&data_dir)?, lifetime(&within)?);
            let until = SystemClock::default().now().saturating_add(within)?;
            let late: Vec<String> = keys
                .authorities()
                .into_iter()
                .filter(|(_, ca)| ca.not_after() < until)
                .map(|(name, ca)| format!("the {name} CA expires at {}", ca.not_after()))
                .collect();
            if late.is_empty() { Ok(()) } else { bail!("{}", late.join("; ")) }
        }
        CertificateCommand::Rotate(args) => rotate::run(&args, None),
        CertificateCommand::RotateCa { pause, args } => rotate::run(&args, Some(&pause)),
        CertificateCommand::Revoke { certificate, reason, kubeconfig } => revoke(&certificate, &reason, &kubeconfig),
    }
}

/// Runs a `kybern auth` command.
///
/// # Errors
/// One line with the cause and what to do.
pub fn auth(command: AuthCommand) -> Result<()> {
    let AuthCommand::Why { user, verb, resource, groups, namespace, name, kubeconfig } = command;
    let status = review(&kubeconfig, &user, &groups, &asked(&verb, &resource, &namespace, &name)?)?;
    println!("{}", verdict(&status));
    Ok(())
}

/// The status of a SubjectAccessReview about `asked`.
fn review(kubeconfig: &Path, user: &str, groups: &[String], asked: &Value) -> Result<Value> {
    let what = if asked.get("path").is_some() { "nonResourceAttributes" } else { "resourceAttributes" };
    let spec = json!({"user": user, "groups": groups, what: asked});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
    let target =
        Target { resource: Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews"), ..no_target() };
    Ok(send(kubeconfig, &target, Write::Create(review.to_string().into()))?["status"].take())
}

fn verdict(status: &Value) -> String {
    let allowed = if status["allowed"] == true { "yes" } else { "no" };
    match status["reason"].as_str().unwrap_or_default() {
        "" if allowed == "no" => "no: no role that is bound to the user or its groups allows it".to_owned(),
        "" => allowed.to_owned(),
        reason => format!("{allowed}: {reason}"),
    }
}

/// What a SubjectAccessReview asks: `deployments`, `deployments.apps`, `deploy/scale`, or a path.
fn asked(verb: &str, resource: &str, namespace: &str, name: &str) -> Result<Value> {
    if resource.starts_with('/') {
        return Ok(json!({"verb": verb, "path": resource}));
    }
    let (of, sub) = resource.split_once('/').unwrap_or((resource, ""));
    let (word, group) = of.split_once('.').map_or((of, None), |(w, g)| (w, Some(g)));
    let table = kybern_api::kinds::table();
    let known = table.iter().find(|row| {
        let named = row.plural == word || row.singular == word || row.short_names.iter().any(|s| s == word);
        named && group.is_none_or(|g| row.group == g)
    });
    let (group, plural) = match (known, group) {
        (Some(row), _) => (row.group.as_str(), row.plural.as_str()),
        (None, Some(group)) => (group, word),
        (None, None) => bail!("{word}: no such resource; of a group that is not built in, say RESOURCE.GROUP"),
    };
    Ok(json!({
        "verb": verb, "group": group, "version": "*", "resource": plural, "subresource": sub,
        "namespace": namespace, "name": name,
    }))
}

fn revoke(certificate: &str, reason: &str, kubeconfig: &Path) -> Result<()> {
    let fingerprint = fingerprint(certificate)?;
    let entry = json!({"data": {&fingerprint: reason}});
    let map = Target {
        resource: Resource::new("", "v1", "configmaps"),
        namespace: revocation::NAMESPACE.into(),
        name: revocation::CONFIG_MAP.into(),
        ..no_target()
    };
    // Server-side apply of one key would own, and so could drop, the others: patch, and create where absent.
    let patched = send(kubeconfig, &map, Write::Patch(MERGE_PATCH, entry.to_string().into()));
    if let Err(error) = patched {
        if error.downcast_ref::<kybern_api::error::Status>().is_none_or(|s| s.code != 404) {
            return Err(error);
        }
        let made = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": map.name}, "data": entry["data"],
        });
        send(kubeconfig, &Target { name: String::new(), ..map }, Write::Create(made.to_string().into()))?;
    }
    println!("{fingerprint} is revoked");
    Ok(())
}

/// Of a fingerprint as it is (also as the audit log shows it), or of the first certificate of a PEM file.
fn fingerprint(of: &str) -> Result<String> {
    let hex = of.trim_start_matches("X509SHA256=").replace(':', "").to_lowercase();
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(hex);
    }
    let text = std::fs::read_to_string(of)
        .with_context(|| format!("{of}: must be a certificate's SHA-256 or a PEM file with the certificate"))?;
    let certificates = pki::certificates(&text)?;
    let first = certificates.first().with_context(|| format!("{of} holds no certificate"))?;
    Ok(pki::fingerprint(first))
}

pub(super) fn keys_of(data_dir: &Path) -> Result<ClusterKeys> {
    keys::load(data_dir)?
        .with_context(|| format!("{} holds no keys: run this on a server, with its --data-dir", data_dir.display()))
}

/// `24h`, `90d`.
pub(super) fn lifetime(text: &str) -> Result<SignedDuration> {
    let days = text.strip_suffix('d').and_then(|d| d.parse::<i64>().ok()).and_then(|d| d.checked_mul(24));
    let found = match days {
        Some(hours) => SignedDuration::try_from_hours(hours),
        None => text.parse().ok(),
    };
    let found = found.with_context(|| format!("{text}: must be a duration such as 24h or 90d"))?;
    if found <= SignedDuration::ZERO || Timestamp::UNIX_EPOCH.checked_add(found).is_err() {
        bail!("{text}: must be longer than nothing, and end");
    }
    Ok(found)
}

fn no_target() -> Target {
    Target {
        resource: Resource::new("", "v1", ""),
        namespace: String::new(),
        name: String::new(),
        subresource: String::new(),
        query: Vec::new(),
        term: 0,
    }
}

/// May a user of one group do this, anywhere?
pub(super) fn allowed(kubeconfig: &Path, user: &str, group: &str, verb: &str, resource: &str) -> Result<bool> {
    Ok(review(kubeconfig, user, &[group.to_owned()], &asked(verb, resource, "", "")?)?["allowed"] == true)
}

/// All objects of a resource.
pub(super) fn list(kubeconfig: &Path, resource: &Resource) -> Result<Vec<Value>> {
    let listed = ask(kubeconfig, async |t| Ok(t.list(resource, &Selection::default()).await?))?;
    listed.items.iter().map(|object| Ok(serde_json::from_slice(&object.bytes)?)).collect()
}

/// The code that a request for Secrets gets from the cluster without credentials.
pub(super) fn status_of_stranger(kubeconfig: &Path, keys: &ClusterKeys) -> Result<u16> {
    let connection = Kubeconfig::load(kubeconfig)?.connection()?;
    let tls = Arc::new(tls::client(tls::Trust::new(keys.server_ca.trusted())?, None)?);
    let stranger = HttpConfig { tls, token: None, ..connection };
    let secrets = Resource::new("", "v1", "secrets");
    let asked = run(stranger, async |t| Ok(t.list(&secrets, &Selection::default()).await.map(|_| 200)))?;
    Ok(asked.unwrap_or_else(|status| status.code))
}

fn send(kubeconfig: &Path, target: &Target, write: Write) -> Result<Value> {
    let answer = ask(kubeconfig, async |t| Ok(t.write(target, write.clone()).await?))?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Does some work with the cluster.
pub(super) fn ask<T>(kubeconfig: &Path, work: impl AsyncFn(&HttpTransport) -> Result<T>) -> Result<T> {
    run(Kubeconfig::load(kubeconfig)?.connection()?, work)
}

fn run<T>(connection: HttpConfig, work: impl AsyncFn(&HttpTransport) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { work(&HttpTransport::new(connection)?).await })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_as_kubectl_names_them() {
        let of = |resource| {
            asked("get", resource, "ns", "").map(|a| format!("{}/{}/{}", a["group"], a["resource"], a["subresource"]))
        };
        let cases = [
            ("pods", "\"\"/\"pods\"/\"\""),
            ("po/log", "\"\"/\"pods\"/\"log\""),
            ("deploy", "\"apps\"/\"deployments\"/\"\""),
            ("deployments.apps/scale", "\"apps\"/\"deployments\"/\"scale\""),
            ("widgets.example.org", "\"example.org\"/\"widgets\"/\"\""),
        ];
        for (word, wanted) in cases {
            assert_eq!(of(word).unwrap(), wanted, "{word}");
        }
        assert!(of("widgets").is_err());
        assert_eq!(asked("get", "/metrics", "", "").unwrap(), json!({"verb": "get", "path": "/metrics"}));
    }

    #[test]
    fn verdicts_say_why() {
        let said = |s: Value| verdict(&s);
        assert_eq!(said(json!({"allowed": true, "reason": "RBAC: x"})), "yes: RBAC: x");
        assert!(said(json!({"allowed": false})).starts_with("no: no role"));
    }

    #[test]
    fn lifetimes_are_days_or_durations() {
        assert_eq!(lifetime("90d").unwrap(), SignedDuration::from_hours(90 * 24));
        assert_eq!(lifetime("24h").unwrap(), SignedDuration::from_hours(24));
        for wrong in ["", "d", "0d", "-1h", "soon", "99999999999999999d"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fingerprints_are_taken_in_every_spelling() {
        let hex = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        for spelling in [hex.clone(), format!("X509SHA256={hex}"), colons] {
            assert_eq!(fingerprint(&spelling).unwrap(), hex);
        }
        assert!(fingerprint("/nonexistent").is_err() && fingerprint("abab").is_err());
    }
}
