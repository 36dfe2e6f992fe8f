//! What a node may read because it serves Ingress.

use kybern_api::ingress::{self, ACCOUNT, Ingress, NAMESPACE};
use kybern_api::object::{Head, Object};
use kybern_api::seam::Lister;
use memchr::memmem;

const GROUP: &str = "networking.k8s.io";

fn stored(node: &str, objects: &dyn Lister) -> Option<Object> {
    objects.get("", "nodes", "", node)
}

/// Is it the proxy's account, and does the node run the proxy?
pub(super) fn account(node: &str, namespace: &str, name: &str, objects: &dyn Lister) -> bool {
    (namespace, name) == (NAMESPACE, ACCOUNT) && stored(node, objects).is_some_and(|n| serves_any(&n.head))
}

fn serves_any(node: &Head) -> bool {
    node.label(ingress::SWITCH) != Some("false")
}

/// Does an Ingress that the node serves name this Secret?
pub(super) fn certificate(node: &str, namespace: &str, name: &str, objects: &dyn Lister) -> bool {
    if namespace.is_empty() || name.is_empty() {
        return false;
    }
    // a stored object is compact JSON, so this text is in the bytes of every Ingress that is to be parsed
    let needle = format!("\"secretName\":\"{name}\"");
    let mut naming = objects
        .list(GROUP, "ingresses", Some(namespace))
        .into_iter()
        .filter(|object| memmem::find(&object.bytes, needle.as_bytes()).is_some())
        .filter_map(|object| read(&object))
        .filter(|ingress| ingress.secrets().any(|secret| secret == name))
        .peekable();
    let Some(node) = naming.peek().and_then(|_| stored(node, objects)) else { return false };
    let classes = objects.list(GROUP, "ingressclasses", None);
    let mut served = ingress::classes(classes.iter());
    served.retain(|class| class.is_served_by(&node.head));
    naming.any(|ingress| served.iter().any(|class| class.name == ingress.class))
}

/// None (and a line) at an Ingress that cannot be read: it gives nobody access.
fn read(object: &Object) -> Option<Ingress> {
    Ingress::of(object)
        .inspect_err(|error| tracing::error!(ingress = %object.head.key(), %error, "a stored Ingress cannot be read"))
        .ok()
}
