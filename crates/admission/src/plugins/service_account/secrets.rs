//! Which Secrets the pods of an account may name, where the account is annotated to say so.

use super::AccountView;
use crate::paths::{list, text};
use crate::plugin::Request;
use kybern_api::error::Status;
use serde_json::Value;

/// True on an account whose pods may name only the Secrets that it lists.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

/// Judges every place of a pod that can name a Secret: CVE-2023-2728 left out ephemeral containers, and
/// CVE-2024-3177 `envFrom`.
pub(super) fn check(req: &Request<'_>, pod: &Value, name: &str, account: &AccountView) -> Result<(), Status> {
    if !account
        .metadata
        .annotations
        .get(ENFORCE)
        .is_some_and(|v| matches!(v.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
    {
        return Ok(());
    }
    let lists = |secrets: &Option<Vec<Value>>, secret: &str| {
        secrets.iter().flatten().any(|known| text(known, "/name") == secret)
    };
    let foreign = |secret: &str| !secret.is_empty() && !lists(&account.secrets, secret);
    let refuse = |what: String, secret: &str, kind: &str| {
        let why = "is not allowed because service account";
        Err(req.forbidden(&format!("{what}=\"{secret}\" {why} {name} does not reference that {kind}")))
    };
    for volume in list(pod, "/spec/volumes") {
        let secret = text(volume, "/secret/secretName");
        if foreign(secret) {
            return refuse("volume with secret.secretName".into(), secret, "secret");
        }
    }
    let kinds = [
        ("initContainers", "init container"),
        ("containers", "container"),
        ("ephemeralContainers", "ephemeral container"),
    ];
    for (field, kind) in kinds {
        for container in list(pod, &format!("/spec/{field}")) {
            let of = text(container, "/name");
            for variable in list(container, "/env") {
                let secret = text(variable, "/valueFrom/secretKeyRef/name");
                if foreign(secret) {
                    let what =
                        format!("{kind} {of} with envVar {} referencing secret.secretName", text(variable, "/name"));
                    return refuse(what, secret, "secret");
                }
            }
            for source in list(container, "/envFrom") {
                let secret = text(source, "/secretRef/name");
                if foreign(secret) {
                    return refuse(format!("{kind} {of} with envFrom referencing secret.secretName"), secret, "secret");
                }
            }
        }
    }
    for (i, reference) in list(pod, "/spec/imagePullSecrets").iter().enumerate() {
        let secret = text(reference, "/name");
        if !lists(&account.image_pull_secrets, secret) {
            return refuse(format!("imagePullSecrets[{i}].name"), secret, "imagePullSecret");
        }
    }
    Ok(())
}
