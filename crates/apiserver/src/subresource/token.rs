//! `serviceaccounts/token`: tokens bound to an account and, if asked for, to a pod, secret or node.

use crate::present::Answer;
use crate::registry::gate::Gate;
use crate::registry::kinds::Resource;
use crate::registry::metadata;
use crate::request::chain::Authorized;
use crate::server::Inner;
use crate::verbs::{Payload, get};
use kybern_admission::Operation;
use kybern_api::error::{Cause, Reason, Status};
use kybern_api::tree;
use kybern_authn::issuer::{BoundRef, KubernetesClaim, TokenSpec};
use serde_json::{Value, json};

/// Seconds a token lives when the request says nothing.
const DEFAULT_LIFETIME: i64 = 3600;
/// Seconds a token lives at least.
const MIN_LIFETIME: i64 = 600;

/// What a token may be bound to: kind, resource.
const BINDABLE: [(&str, &str); 3] = [("Pod", "pods"), ("Secret", "secrets"), ("Node", "nodes")];

/// POST of `token`.
pub(crate) async fn run(
    server: &Inner,
    resource: &Resource,
    auth: Authorized,
    payload: Payload,
) -> Result<Answer, Status> {
    let mut request = super::decode(resource, &auth, &payload)?;
    let issuer =
        server.issuer.as_ref().ok_or_else(|| Status::new(Reason::ServiceUnavailable, "tokens are not issued here"))?;
    // The pod that the token is bound to may just have been made through another server.
    server.barrier().await?;
    let gate = Gate::new(server, &auth, resource);
    gate.pass(Operation::Create, auth.name(), Some(&mut request), None).await?;
    let account = get::current(server, resource, auth.namespace(), auth.name())?;
    let seconds = tree::int(&request, "spec.expirationSeconds").unwrap_or(DEFAULT_LIFETIME);
    check(&request, auth.name(), seconds)?;
    let audiences: Vec<String> =
        tree::list(&request, "spec.audiences").iter().filter_map(|a| a.as_str().map(str::to_owned)).collect();
    let mut claim = KubernetesClaim {
        namespace: auth.namespace().to_owned(),
        serviceaccount: BoundRef { name: auth.name().to_owned(), uid: account.head.uid.to_string() },
        pod: None,
        secret: None,
        node: None,
    };
    bind(server, &auth, &request, &mut claim)?;
    let spec = TokenSpec { claim, audiences: &audiences, lifetime: jiff::SignedDuration::from_secs(seconds) };
    let minted = issuer.mint(&spec, server.ids.as_ref(), auth.now).map_err(|e| Status::internal(e.to_string()))?;
    if audiences.is_empty() {
        request["spec"]["audiences"] = json!(issuer.audiences());
    }
    request["spec"]["expirationSeconds"] = seconds.into();
    request["status"] = json!({"token": minted.token, "expirationTimestamp": metadata::time(minted.expires)});
    request["metadata"] =
        json!({"name": auth.name(), "namespace": auth.namespace(), "creationTimestamp": metadata::time(auth.now)});
    request["kind"] = "TokenRequest".into();
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    Ok(Answer::Tree(request, 201))
}

fn check(request: &Value, name: &str, seconds: i64) -> Result<(), Status> {
    let message = if seconds < MIN_LIFETIME {
        "may not specify a duration less than 10 minutes"
    } else if seconds > 1 << 32 {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let message = format!("Invalid value: {}: {message}", request["spec"]["expirationSeconds"]);
    let cause = Cause { reason: "FieldValueInvalid".into(), message, field: "spec.expirationSeconds".into() };
    Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, vec![cause]))
}

/// Fills the claim with the object the token is to die with.
fn bind(server: &Inner, auth: &Authorized, request: &Value, claim: &mut KubernetesClaim) -> Result<(), Status> {
    let Some(wanted) = tree::at(request, "spec.boundObjectRef").filter(|r| r.is_object()) else { return Ok(()) };
    let (kind, name) = (tree::text(wanted, "kind"), tree::text(wanted, "name"));
    let Some((_, plural)) = BINDABLE.iter().find(|(k, _)| *k == kind) else {
        return Err(Status::bad_request(format!("cannot bind token to object of kind {kind:?}")));
    };
    let target = server.kinds.find("", "v1", plural).ok_or_else(crate::verbs::no_such_path)?;
    let namespace = if target.def().namespaced() { auth.namespace() } else { "" };
    let object = get::current(server, &target, namespace, name)?;
    let uid = tree::text(wanted, "uid");
    if !uid.is_empty() && uid != object.head.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("", plural, name, &why));
    }
    let bound = BoundRef { name: name.to_owned(), uid: object.head.uid.to_string() };
    match *plural {
        "pods" => {
            let pod = object.tree().map_err(|e| Status::internal(e.to_string()))?;
            if tree::text(&pod, "spec.serviceAccountName") != auth.name() {
                let text = format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    auth.name()
                );
                return Err(Status::bad_request(text));
            }
            claim.node = node_of(server, tree::text(&pod, "spec.nodeName"));
            claim.pod = Some(bound);
        }
        "secrets" => claim.secret = Some(bound),
        _ => claim.node = Some(bound),
    }
    Ok(())
}

fn node_of(server: &Inner, name: &str) -> Option<BoundRef> {
    use kybern_api::seam::Lister;
    let node = server.kinds.get("", "nodes", "", name)?;
    Some(BoundRef { name: name.to_owned(), uid: node.head.uid.to_string() })
}
