//! DefaultStorageClass and DefaultIngressClass: who names no class gets the one marked as default.

use crate::paths::{object_mut, text};
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use kybern_api::object::Object;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

#[derive(Debug)]
pub(crate) struct DefaultStorageClass;

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, env: &Env<'_>) -> Result<(), Status> {
        let creates = req.is_main("", "persistentvolumeclaims", &[Operation::Create]);
        let Some(claim) = obj.filter(|_| creates) else { return Ok(()) };
        // the annotation is the field's old spelling; an empty class means: none, on purpose
        let annotated = claim.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class").is_some();
        if annotated || claim.pointer("/spec/storageClassName").is_some_and(|class| !class.is_null()) {
            return Ok(());
        }
        let marked =
            default_class(env, "storage.k8s.io", "storageclasses", "storageclass.kubernetes.io/is-default-class");
        if let (Some(class), Some(spec)) = (newest(marked), object_mut(claim, "spec")) {
            spec.insert("storageClassName".into(), class.into());
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct DefaultIngressClass;

impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, env: &Env<'_>) -> Result<(), Status> {
        let creates = req.is_main("networking.k8s.io", "ingresses", &[Operation::Create]);
        let Some(ingress) = obj.filter(|_| creates) else { return Ok(()) };
        let annotated = ingress.pointer("/metadata/annotations/kubernetes.io~1ingress.class").is_some();
        if annotated || !text(ingress, "/spec/ingressClassName").is_empty() {
            return Ok(());
        }
        let marked =
            default_class(env, "networking.k8s.io", "ingressclasses", "ingressclass.kubernetes.io/is-default-class");
        if let (Some(class), Some(spec)) = (newest(marked), object_mut(ingress, "spec")) {
            spec.insert("ingressClassName".into(), class.into());
        }
        Ok(())
    }
}

/// The classes marked as default by this annotation.
fn default_class(env: &Env<'_>, group: &str, resource: &str, annotation: &str) -> Vec<Object> {
    #[derive(Deserialize)]
    struct View {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        annotations: HashMap<String, String>,
    }
    let is_marked = |class: &Object| {
        class.view::<View>().is_ok_and(|view| view.metadata.annotations.get(annotation).is_some_and(|v| v == "true"))
    };
    env.objects.list(group, resource, None).into_iter().filter(is_marked).collect()
}

/// Of several the newest, and of equally new ones the first by name, as Kubernetes chooses.
fn newest(classes: Vec<Object>) -> Option<String> {
    let order = |class: &Object| (std::cmp::Reverse(class.head.created), class.head.name.clone());
    classes.iter().min_by_key(|class| order(class)).map(|class| class.head.name.to_string())
}
