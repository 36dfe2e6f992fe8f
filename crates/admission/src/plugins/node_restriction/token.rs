//! Tokens for the service accounts of pods on the node.

use super::{Judged, list, text};
use kybern_api::error::Status;
use kybern_api::ingress::{ACCOUNT, NAMESPACE};
use serde_json::Value;

impl Judged<'_> {
    pub(super) fn token(&self, obj: Option<&Value>) -> Result<(), Status> {
        let Some(request) = obj else { return Ok(()) };
        let bound = |key: &str| text(request, &format!("/spec/boundObjectRef/{key}"));
        if (self.req.namespace, self.req.name) == (NAMESPACE, ACCOUNT) && bound("kind") == "Node" {
            return self.proxy_token(request, bound("name"));
        }
        if bound("kind") != "Pod" || bound("apiVersion") != "v1" {
            return self.refuse("may only create tokens bound to a pod");
        }
        let Some(pod) = self.bound_pod(bound("name")) else {
            return self.refuse("requested token bound to a pod scheduled on a different node");
        };
        if bound("uid").is_empty() || bound("uid") != text(&pod, "/metadata/uid") {
            return self.refuse("requested token with a pod binding without the pod's uid");
        }
        if text(&pod, "/spec/serviceAccountName") != self.req.name {
            return self.refuse("requested token for a service account that the pod does not run as");
        }
        let wanted = list(request, "/spec/audiences");
        if wanted.is_empty() {
            return Ok(());
        }
        let offered: Vec<&str> = audiences(&pod).collect();
        match wanted.iter().filter_map(Value::as_str).find(|audience| !offered.contains(audience)) {
            Some(audience) => {
                self.refuse(&format!("requested a token for audience \"{audience}\", which the pod does not use"))
            }
            None => Ok(()),
        }
    }
}

impl Judged<'_> {
    /// A token of the Ingress proxy: it dies with the node, and is for the API alone.
    fn proxy_token(&self, request: &Value, node: &str) -> Result<(), Status> {
        if node != self.node {
            return self.refuse("requested token bound to a different node");
        }
        if !list(request, "/spec/audiences").is_empty() {
            return self.refuse("may not choose the audience of the Ingress proxy's token");
        }
        Ok(())
    }
}

/// The audiences of the pod's projected tokens; empty text is the API server's.
fn audiences(pod: &Value) -> impl Iterator<Item = &str> {
    list(pod, "/spec/volumes")
        .iter()
        .flat_map(|volume| list(volume, "/projected/sources"))
        .filter_map(|source| source.get("serviceAccountToken"))
        .map(|token| text(token, "/audience"))
}
