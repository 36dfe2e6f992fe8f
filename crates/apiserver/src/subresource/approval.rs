//! Approving certificate requests: needs a right on the signer besides that on the request.

use crate::present::Answer;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::server::Inner;
use crate::verbs::{Payload, get};
use kybern_api::attributes::Attributes;
use kybern_api::error::Status;

/// GET, PUT and PATCH of `approval`.
pub(crate) async fn run(
    server: &Inner,
    resource: &Resource,
    auth: Authorized,
    payload: Payload,
) -> Result<Answer, Status> {
    if auth.verb.mutates() {
        let object = get::current(server, resource, auth.namespace(), auth.name())?;
        let tree = object.tree().map_err(|e| Status::internal(e.to_string()))?;
        let signer = kybern_api::tree::text(&tree, "spec.signerName");
        may_approve(server, &auth, resource, signer).await?;
    }
    super::object_part(server, resource, auth, payload).await
}

/// The right to approve for one signer, or for all of its domain (`DOMAIN/*`).
async fn may_approve(server: &Inner, auth: &Authorized, resource: &Resource, signer: &str) -> Result<(), Status> {
    let ask = |name: &str| Attributes {
        user: auth.attributes.user.clone(),
        verb: "approve".into(),
        group: resource.def().group.to_string(),
        version: "*".into(),
        resource: "signers".into(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    let domain = signer.split('/').next().unwrap_or_default();
    if server.permit(&ask(signer)).await.is_ok() || server.permit(&ask(&format!("{domain}/*"))).await.is_ok() {
        return Ok(());
    }
    let why = format!("user not permitted to approve requests with signerName \"{signer}\"");
    Err(Status::forbidden(&resource.def().group, &resource.def().plural, auth.name(), &why))
}
