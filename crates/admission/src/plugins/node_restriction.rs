//! NodeRestriction: a node writes its own Node, its own lease, and the pods that are bound to it; of
//! those only what is the node's to say.

use crate::paths::{is_mirror_pod, list, text};
use crate::plugin::{Env, Operation, Plugin, Request};
use crate::plugins::certificate_subject::subject;
use kybern_api::error::Status;
use serde_json::Value;

mod node;
mod pod;
mod token;

const LEASE_NAMESPACE: &str = "kube-node-lease";

#[derive(Debug)]
pub(crate) struct NodeRestriction;

/// A node's request under judgement.
struct Judged<'a> {
    req: &'a Request<'a>,
    env: &'a Env<'a>,
    /// The asking node.
    node: &'a str,
}

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        if !req.user.is_in("system:nodes") {
            return Ok(());
        }
        let Some(node) = req.user.node_name().filter(|name| !name.is_empty()) else {
            return Err(req.forbidden(&format!(
                "could not determine node from user \"{}\"; user name must be system:node:NAME",
                req.user.name
            )));
        };
        let judged = Judged { req, env, node };
        if req.is("", "pods") {
            judged.pod(obj)
        } else if req.is("", "nodes") {
            judged.node(obj)
        } else if req.is("", "serviceaccounts") && req.subresource == "token" {
            judged.token(obj)
        } else if req.is("coordination.k8s.io", "leases") {
            judged.lease(obj)
        } else if req.is("storage.k8s.io", "csinodes") {
            judged.named_like_node(obj, "CSINode")
        } else if req.is("certificates.k8s.io", "certificatesigningrequests") {
            judged.certificate_request(obj)
        } else if req.is("", "persistentvolumeclaims") {
            judged.refuse("may not write persistent volume claims")
        } else {
            Ok(())
        }
    }
}

impl Judged<'_> {
    fn refuse(&self, what: &str) -> Result<(), Status> {
        Err(self.req.forbidden(&format!("node \"{}\" {what}", self.node)))
    }

    /// The name of the object: of the request, or of the object itself on create.
    fn object_name<'b>(&'b self, obj: Option<&'b Value>) -> &'b str {
        match obj {
            Some(obj) if self.req.name.is_empty() => text(obj, "/metadata/name"),
            _ => self.req.name,
        }
    }

    fn named_like_node(&self, obj: Option<&Value>, what: &str) -> Result<(), Status> {
        if self.object_name(obj) == self.node {
            Ok(())
        } else {
            self.refuse(&format!("can only access {what} with the same name as the requesting node"))
        }
    }

    fn lease(&self, obj: Option<&Value>) -> Result<(), Status> {
        if self.req.namespace != LEASE_NAMESPACE {
            return self.refuse(&format!("can only access leases in the \"{LEASE_NAMESPACE}\" system namespace"));
        }
        self.named_like_node(obj, "a lease")
    }

    /// A node asks for certificates of its own name only.
    fn certificate_request(&self, obj: Option<&Value>) -> Result<(), Status> {
        let Some(request) = obj.filter(|_| self.req.operation == Operation::Create) else { return Ok(()) };
        let signer = text(request, "/spec/signerName");
        if !["kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"].contains(&signer) {
            return Ok(());
        }
        match subject(request) {
            Some(subject) if subject.common_names == [self.req.user.name.as_str()] => Ok(()),
            _ => self.refuse("can only create a node certificate request for itself"),
        }
    }

    /// The stored pod that the request is about, when it is bound to the node.
    fn bound_pod(&self, name: &str) -> Option<Value> {
        let pod = self.env.objects.get("", "pods", self.req.namespace, name)?.tree().ok()?;
        (text(&pod, "/spec/nodeName") == self.node).then_some(pod)
    }
}
