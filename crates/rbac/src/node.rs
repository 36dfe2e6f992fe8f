//! The Node authoriser: a node reads what its pods reference, writes what is its own, and no more.
//!
//! There is no graph to maintain. A question "may node N read secret S" is answered by a pod on N that
//! references S. What a pod references cannot change while the pod lives (ephemeral containers only add),
//! so a pod once found is a witness, and one lookup shows whether it still is. A node that serves Ingress
//! reads the certificates of the Ingresses it serves besides.

use crate::authorizer::Decision;
use crate::rules::Rule;
use kybern_api::attributes::Attributes;
use kybern_api::dns::CUSTOM;
use kybern_api::object::Object;
use kybern_api::seam::Lister;
use memchr::memmem;
use parking_lot::RwLock;
use smol_str::SmolStr;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::bootstrap::node_rules;
use references::PodView;

mod ingress;
mod references;

/// Witnesses remembered.
const CACHE_LIMIT: usize = 65_536;
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Decides for users `system:node:NAME` in group `system:nodes`.
#[derive(Debug, Default)]
pub struct NodeAuthorizer {
    witnesses: RwLock<HashMap<Edge, Witness>>,
}

/// A node reads an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Edge {
    node: SmolStr,
    kind: Referenced,
    namespace: SmolStr,
    name: SmolStr,
}

/// Kinds that pods reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Referenced {
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
}

/// The pod that references it.
#[derive(Debug, Clone)]
struct Witness {
    pod: SmolStr,
    uid: SmolStr,
}

/// How a node's request for a resource is judged.
#[derive(Debug, Clone, Copy)]
enum Scope {
    /// get (and list or watch of one object by name) of what the node's pods reference, or the node itself needs.
    Referenced(Referenced),
    /// A volume of a referenced claim.
    Volume,
    /// A pod bound to the node, or a list of those.
    Pods,
    /// The object with the node's own name, outside namespaces.
    Own,
    /// The node's own lease.
    Lease,
    /// A token for the service account of one of the node's pods, or of its Ingress proxy.
    Token,
    /// An attachment to the node.
    Attachment,
}

/// Resources whose objects belong to one node or another. All others follow [`node_rules`] alone.
static SCOPED: &[(&str, &str, &str, Scope)] = &[
    ("", "secrets", "", Scope::Referenced(Referenced::Secret)),
    ("", "configmaps", "", Scope::Referenced(Referenced::ConfigMap)),
    ("", "serviceaccounts", "", Scope::Referenced(Referenced::ServiceAccount)),
    ("", "serviceaccounts", "token", Scope::Token),
    ("", "persistentvolumeclaims", "", Scope::Referenced(Referenced::Claim)),
    ("", "persistentvolumeclaims", "status", Scope::Referenced(Referenced::Claim)),
    ("", "persistentvolumes", "", Scope::Volume),
    ("", "pods", "", Scope::Pods),
    ("", "pods", "status", Scope::Pods),
    ("", "pods", "eviction", Scope::Pods),
    ("", "nodes", "", Scope::Own),
    ("", "nodes", "status", Scope::Own),
    ("storage.k8s.io", "csinodes", "", Scope::Own),
    ("storage.k8s.io", "volumeattachments", "", Scope::Attachment),
    ("coordination.k8s.io", "leases", "", Scope::Lease),
];

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(node_rules);

impl NodeAuthorizer {
    /// The decision for one request; nobody but a node gets an opinion.
    pub fn authorize(&self, request: &Attributes, objects: &dyn Lister) -> Decision {
        let Some(node) = request.user.node_name().filter(|node| !node.is_empty()) else {
            return Decision::NoOpinion(String::new());
        };
        if !RULES.iter().any(|rule| rule.covers(request)) {
            return Decision::NoOpinion(String::new());
        }
        let scope = SCOPED.iter().find(|(group, resource, sub, _)| {
            *group == request.group && *resource == request.resource && *sub == request.subresource
        });
        let allowed = match scope {
            None => Ok(()),
            Some((.., scope)) => self.judge(*scope, node, request, objects),
        };
        match allowed {
            Ok(()) => Decision::Allow(format!("node \"{node}\"")),
            Err(why) => Decision::NoOpinion(why),
        }
    }

    fn judge(&self, scope: Scope, node: &str, request: &Attributes, objects: &dyn Lister) -> Result<(), String> {
        let unrelated = || Err(format!("no relationship found between node '{node}' and this object"));
        let yes = match scope {
            Scope::Referenced(kind) => {
                let name = named(request, "metadata.name")?;
                self.references(node, kind, &request.namespace, name, objects)
                    || (kind == Referenced::Secret && ingress::certificate(node, &request.namespace, name, objects))
                    || (kind == Referenced::ConfigMap && (request.namespace.as_str(), name) == CUSTOM)
            }
            Scope::Token => {
                self.references(node, Referenced::ServiceAccount, &request.namespace, &request.name, objects)
                    || ingress::account(node, &request.namespace, &request.name, objects)
            }
            Scope::Volume => volume_claim(objects, &request.name).is_some_and(|(namespace, claim)| {
                self.references(node, Referenced::Claim, &namespace, &claim, objects)
            }),
            Scope::Pods => return pods(node, request, objects),
            Scope::Own => return own(node, request),
            Scope::Lease => return lease(node, request),
            Scope::Attachment => attached_to(objects, &request.name).is_some_and(|to| to == node),
        };
        if yes { Ok(()) } else { unrelated() }
    }

    /// Does a pod on the node reference the object?
    fn references(&self, node: &str, kind: Referenced, namespace: &str, name: &str, objects: &dyn Lister) -> bool {
        if namespace.is_empty() || name.is_empty() {
            return false;
        }
        let edge = Edge { node: node.into(), kind, namespace: namespace.into(), name: name.into() };
        let known = self.witnesses.read().get(&edge).cloned();
        if let Some(known) = known
            && objects.get("", "pods", namespace, &known.pod).is_some_and(|pod| pod.head.uid == known.uid)
        {
            return true;
        }
        let found = pods_on(objects, node, namespace).find(|(_, view)| view.references(kind, name)).map(|(pod, _)| pod);
        let mut witnesses = self.witnesses.write();
        let Some(pod) = found else {
            witnesses.remove(&edge);
            return false;
        };
        if witnesses.len() >= CACHE_LIMIT {
            witnesses.clear();
        }
        witnesses.insert(edge, Witness { pod: pod.head.name.clone(), uid: pod.head.uid.clone() });
        true
    }
}

/// The pods of a namespace that are bound to the node.
fn pods_on<'a>(
    objects: &dyn Lister,
    node: &'a str,
    namespace: &str,
) -> impl Iterator<Item = (Object, PodView)> + use<'a> {
    // a stored object is compact JSON, so this text is in the bytes of every pod that is to be parsed
    let needle = format!("\"nodeName\":\"{node}\"");
    objects.list("", "pods", Some(namespace)).into_iter().filter_map(move |pod| {
        memmem::find(&pod.bytes, needle.as_bytes())?;
        let view = pod_view(&pod)?;
        (view.node() == node).then_some((pod, view))
    })
}

/// None (and a line) at a pod that cannot be read: it gives nobody access.
fn pod_view(pod: &Object) -> Option<PodView> {
    pod.view().inspect_err(|error| tracing::error!(pod = %pod.head.key(), %error, "a stored pod cannot be read")).ok()
}

/// The one object that a request names: in its path, or by the field selector of a list or watch.
fn named<'a>(request: &'a Attributes, field: &str) -> Result<&'a str, String> {
    if !request.name.is_empty() {
        return Ok(&request.name);
    }
    selected(&request.field_selector, field).ok_or_else(|| "can only read resources of this type by name".to_owned())
}

/// The value that a field selector demands of `field`.
fn selected<'a>(selector: &'a str, field: &str) -> Option<&'a str> {
    selector.split(',').find_map(|term| {
        let (key, value) = term.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (key.trim() == field).then(|| value.trim())
    })
}

fn pods(node: &str, request: &Attributes, objects: &dyn Lister) -> Result<(), String> {
    match request.verb.as_str() {
        // mirror pods: NodeRestriction judges the object
        "create" if request.subresource.is_empty() => Ok(()),
        "list" | "watch" | "deletecollection" => match selected(&request.field_selector, "spec.nodeName") {
            Some(value) if value == node => Ok(()),
            _ if !request.name.is_empty() => own_pod(node, request, objects),
            _ => Err("can only list/watch pods with spec.nodeName field selector".to_owned()),
        },
        _ => own_pod(node, request, objects),
    }
}

fn own_pod(node: &str, request: &Attributes, objects: &dyn Lister) -> Result<(), String> {
    let pod = objects.get("", "pods", &request.namespace, &request.name);
    match pod.as_ref().and_then(pod_view) {
        Some(view) if view.node() == node => Ok(()),
        _ => Err(format!("no relationship found between node '{node}' and this object")),
    }
}

/// Every node reads all nodes: their addresses and pod ranges are its routes. It writes its own only.
fn own(node: &str, request: &Attributes) -> Result<(), String> {
    match request.verb.as_str() {
        "get" | "list" | "watch" if request.group.is_empty() => Ok(()),
        // NodeRestriction judges the name in the object
        "create" if request.name.is_empty() => Ok(()),
        _ if request.name == node => Ok(()),
        _ => Err(format!("node '{node}' cannot {} another node's object", request.verb)),
    }
}

fn lease(node: &str, request: &Attributes) -> Result<(), String> {
    if request.namespace != LEASE_NAMESPACE {
        return Err(format!("can only access leases in the \"{LEASE_NAMESPACE}\" system namespace"));
    }
    match request.verb.as_str() {
        "create" if request.name.is_empty() => Ok(()),
        _ if request.name == node => Ok(()),
        _ => Err("can only access node lease with the same name as the requesting node".to_owned()),
    }
}

fn volume_claim(objects: &dyn Lister, volume: &str) -> Option<(String, String)> {
    let tree = objects.get("", "persistentvolumes", "", volume)?.tree().ok()?;
    let text = |path: &str| tree.pointer(path).and_then(|v| v.as_str()).map(str::to_owned);
    Some((text("/spec/claimRef/namespace")?, text("/spec/claimRef/name")?))
}

fn attached_to(objects: &dyn Lister, attachment: &str) -> Option<String> {
    let tree = objects.get("storage.k8s.io", "volumeattachments", "", attachment)?.tree().ok()?;
    tree.pointer("/spec/nodeName").and_then(|v| v.as_str()).map(str::to_owned)
}
