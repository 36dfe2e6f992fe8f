//! ServiceAccount: every pod runs as a service account and, unless told otherwise, gets its token. Where the
//! account says so, its pods may name no Secrets but those that it lists.

mod secrets;

use crate::paths::{is_mirror_pod, list, list_mut, object_mut, text};
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and seven seconds: the odd seconds tell generated volumes from others.
const TOKEN_SECONDS: u32 = 3607;

#[derive(Debug)]
pub(crate) struct ServiceAccount;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AccountView {
    metadata: AccountMeta,
    automount_service_account_token: Option<bool>,
    secrets: Option<Vec<Value>>,
    image_pull_secrets: Option<Vec<Value>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AccountMeta {
    annotations: BTreeMap<String, String>,
}

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, env: &Env<'_>) -> Result<(), Status> {
        let Some(pod) = obj.filter(|_| req.is_main("", "pods", &[Operation::Create])) else { return Ok(()) };
        if is_mirror_pod(pod) {
            return Ok(());
        }
        let Some(spec) = object_mut(pod, "spec") else { return Ok(()) };
        let named = spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or_default();
        let name = if named.is_empty() { "default".to_owned() } else { named.to_owned() };
        let account = find(req, &name, env)?;
        spec.insert("serviceAccountName".into(), name.clone().into());
        // the field's old name is served with the same value
        spec.insert("serviceAccount".into(), name.into());
        let wanted = spec.get("automountServiceAccountToken").and_then(Value::as_bool);
        if wanted.or(account.automount_service_account_token).unwrap_or(true) {
            mount_token(spec, env);
        }
        if spec.get("imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty)
            && let Some(secrets) = account.image_pull_secrets.filter(|secrets| !secrets.is_empty())
        {
            spec.insert("imagePullSecrets".into(), secrets.into());
        }
        Ok(())
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        let debugs =
            req.is("", "pods") && req.subresource == "ephemeralcontainers" && req.operation == Operation::Update;
        let judged = debugs || req.is_main("", "pods", &[Operation::Create]);
        let Some(pod) = obj.filter(|_| judged) else { return Ok(()) };
        let name = text(pod, "/spec/serviceAccountName");
        if debugs && name.is_empty() {
            return Ok(());
        }
        if debugs || !is_mirror_pod(pod) {
            return secrets::check(req, pod, name, &find(req, name, env)?);
        }
        if !name.is_empty() {
            return Err(req.forbidden("a mirror pod may not reference service accounts"));
        }
        let projects_token = |volume: &Value| {
            list(volume, "/projected/sources").iter().any(|source| source.get("serviceAccountToken").is_some())
        };
        if list(pod, "/spec/volumes").iter().any(projects_token) {
            return Err(req.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
        }
        Ok(())
    }
}

fn find(req: &Request<'_>, name: &str, env: &Env<'_>) -> Result<AccountView, Status> {
    let lookup =
        |why: &str| req.forbidden(&format!("error looking up service account {}/{name}: {why}", req.namespace));
    let account = env
        .objects
        .get("", "serviceaccounts", req.namespace, name)
        .ok_or_else(|| lookup(&format!("serviceaccount \"{name}\" not found")))?;
    account.view().map_err(|e| lookup(&e.to_string()))
}

/// Mounts one projected volume (token, CA, namespace) into every container that mounts nothing there.
fn mount_token(spec: &mut Map<String, Value>, env: &Env<'_>) {
    let existing = spec
        .get("volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|volume| text(volume, "/name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let volume = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", env.ids.suffix()));
    let mut used = false;
    for kind in ["initContainers", "containers"] {
        for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            used |= mount(container, &volume);
        }
    }
    if used
        && existing.is_none()
        && let Some(volumes) = list_mut(spec, "volumes")
    {
        volumes.push(token_volume(&volume));
    }
}

/// False where the container has a mount of its own at that path.
fn mount(container: &mut Value, volume: &str) -> bool {
    let Some(mounts) = container.as_object_mut().and_then(|c| list_mut(c, "volumeMounts")) else { return false };
    if mounts.iter().any(|mount| text(mount, "/mountPath") == MOUNT_PATH) {
        return false;
    }
    mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH }));
    true
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": [
                    { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } },
                ] } },
            ],
        },
    })
}
