//! Ingress as Kybern's own proxy reads it: which classes are its own, on which nodes they are served, who
//! owns a host. The proxy, the controller that reports, and the Node authoriser must agree on all of it.

mod claims;
mod settings;
mod view;

pub use claims::{Claims, Taken, order};
pub use settings::{Protocol, REWRITE, Settings};
pub use view::{Backend, Ingress, Path, PathType, Port, Rule, Tls};

use crate::meta::selector::Selector;
use crate::object::{Head, Object};
use serde::Deserialize;
use smol_str::SmolStr;
use std::collections::HashMap;

/// The controller that an IngressClass of ours names.
pub const CONTROLLER: &str = "kybern.io/ingress";
/// The class that every cluster begins with.
pub const CLASS: &str = "kybern";
/// The proxy's service account, in [`NAMESPACE`].
pub const ACCOUNT: &str = "ingress";
/// The namespace of the proxy's service account.
pub const NAMESPACE: &str = "kube-system";
/// Label of a node: with the value `false` it serves no Ingress.
pub const SWITCH: &str = "kybern.io/ingress";
/// Annotation of an IngressClass: a label selector of the nodes that serve it; without it all do.
pub const NODE_SELECTOR: &str = "kybern.io/node-selector";

/// An IngressClass that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: SmolStr,
    nodes: Selector,
}

impl Class {
    /// The class; None: it is another controller's.
    ///
    /// # Errors
    /// When it cannot be read, or its node selector is none. No node serves such a class.
    pub fn of(object: &Object) -> Result<Option<Self>, String> {
        let view: ClassView = object.view().map_err(|e| e.to_string())?;
        if view.spec.controller != CONTROLLER {
            return Ok(None);
        }
        let nodes = match view.metadata.annotations.unwrap_or_default().get(NODE_SELECTOR) {
            Some(text) => Selector::parse(text).map_err(|e| format!("annotation {NODE_SELECTOR}: {e}"))?,
            None => Selector::everything(),
        };
        Ok(Some(Self { name: object.head.name.clone(), nodes }))
    }
    /// Is it served on the node?
    pub fn is_served_by(&self, node: &Head) -> bool {
        node.label(SWITCH) != Some("false") && self.nodes.matches(node)
    }
}

/// Those of these classes that are ours and can be read.
pub fn classes<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<Class> {
    let ours = |object: &Object| {
        Class::of(object).unwrap_or_else(|why| {
            tracing::warn!(class = %object.head.name, "this IngressClass is served nowhere: {why}");
            None
        })
    };
    objects.filter_map(ours).collect()
}

#[derive(Deserialize)]
struct ClassView {
    metadata: ClassMetadata,
    #[serde(default)]
    spec: ClassSpec,
}

#[derive(Deserialize)]
struct ClassMetadata {
    annotations: Option<HashMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ClassSpec {
    controller: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn object(annotations: &str, controller: &str) -> Object {
        let bytes = format!(r#"{{"metadata":{{"annotations":{annotations}}},"spec":{{"controller":"{controller}"}}}}"#);
        Object { head: Arc::new(Head { name: "c".into(), ..Head::default() }), revision: 1, bytes: bytes.into() }
    }
    fn node(labels: &[(&str, &str)]) -> Head {
        Head { labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(), ..Head::default() }
    }

    #[test]
    fn a_class_is_served_where_its_selector_and_the_nodes_switch_say() {
        assert_eq!(Class::of(&object("null", "k8s.io/ingress-nginx")), Ok(None));
        let all = Class::of(&object("null", CONTROLLER)).unwrap().unwrap();
        assert!(all.is_served_by(&node(&[])) && all.is_served_by(&node(&[(SWITCH, "true")])));
        assert!(!all.is_served_by(&node(&[(SWITCH, "false")])));
        let edge = Class::of(&object(r#"{"kybern.io/node-selector":"role in (edge)"}"#, CONTROLLER)).unwrap().unwrap();
        assert!(edge.is_served_by(&node(&[("role", "edge")])) && !edge.is_served_by(&node(&[])));
        assert!(!edge.is_served_by(&node(&[(SWITCH, "false"), ("role", "edge")])));
        assert!(Class::of(&object(r#"{"kybern.io/node-selector":"in in in"}"#, CONTROLLER)).is_err());
    }
}
