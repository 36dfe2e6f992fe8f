//! What a cluster must hold before anybody can use it: default roles and bindings, and the join tokens
//! that the first server was given. Written by the leader, through the API like everything else.

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kybern_api::error::{Reason, Status};
use kybern_api::{ingress, kinds};
use kybern_authn::join::{JoinToken, Role};
use kybern_client::transport::{Resource, Target, Transport, Write};
use kybern_rbac::Rule;
use kybern_rbac::bootstrap::{ControllerRole, objects, reconciled};
use serde_json::{Value, json};

/// What a controller or scheduler declared becomes its role.
fn controller_roles() -> Vec<ControllerRole> {
    kybern_controller_manager::roles()
        .into_iter()
        .map(|r| ControllerRole { name: r.name.to_owned(), rules: r.rules.into_iter().map(declared_rule).collect() })
        .collect()
}

fn declared_rule(r: PolicyRule) -> Rule {
    Rule {
        verbs: r.verbs,
        api_groups: r.api_groups.unwrap_or_default(),
        resources: r.resources.unwrap_or_default(),
        resource_names: r.resource_names.unwrap_or_default(),
        non_resource_urls: r.non_resource_urls.unwrap_or_default(),
    }
}

/// The storage class of claims that name none: volumes on the disk of the node where their pod runs.
fn default_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "local-path", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kybern.io/local-path", "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    })
}

/// The class of Ingresses that name none, and the account of the proxies that serve it.
fn ingress() -> [Value; 2] {
    [
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": ingress::CLASS, "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
            "spec": {"controller": ingress::CONTROLLER},
        }),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": ingress::ACCOUNT, "namespace": ingress::NAMESPACE},
        }),
    ]
}

/// Objects written at the same time: one commit carries many of them.
const AT_ONCE: usize = 32;

/// Creates what is missing and completes default roles that have changed.
///
/// # Errors
/// The first refusal; the caller tries again.
pub(super) async fn run(api: &dyn Transport, tokens: &[(Role, JoinToken)], serves_ingress: bool) -> Result<(), Status> {
    let mut wanted: Vec<Value> = Vec::new();
    for (role, token) in tokens {
        wanted.push(token.to_secret(*role, None, "given to the first server"));
    }
    wanted.append(&mut objects(&controller_roles()));
    wanted.push(default_class());
    wanted.append(&mut kybern_apiserver::fairness::default_objects());
    if serves_ingress {
        wanted.extend(ingress());
    }
    let writes: Vec<BoxFuture<'_, Result<(), Status>>> = wanted.into_iter().map(|o| ensure(api, o).boxed()).collect();
    futures::stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await
}

async fn ensure(api: &dyn Transport, wanted: Value) -> Result<(), Status> {
    let text = |path: &str| wanted.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let def =
        kinds::by_kind(group, &kind).ok_or_else(|| Status::internal(format!("no kind {kind} in {api_version}")))?;
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let resource = Resource::new(group, version, &def.plural);
    let stored = match api.get(&resource, &namespace, &name).await {
        Ok(found) => Some(found.tree().map_err(|e| Status::internal(e.to_string()))?),
        Err(s) if s.reason == Reason::NotFound => None,
        Err(s) => return Err(s),
    };
    let (name, write) = match stored {
        None => (String::new(), Write::Create(wanted.to_string().into())),
        Some(stored) => match reconciled(&stored, &wanted) {
            Some(mut better) => {
                better["apiVersion"] = wanted["apiVersion"].clone();
                better["kind"] = wanted["kind"].clone();
                (name, Write::Update(better.to_string().into()))
            }
            None => return Ok(()),
        },
    };
    let target = Target { resource, namespace, name, subresource: String::new(), query: Vec::new(), term: 0 };
    match api.write(&target, write).await {
        Err(s) if !matches!(s.reason, Reason::AlreadyExists | Reason::Conflict) => Err(s),
        _ => Ok(()),
    }
}
