//! Pods made from the template of what owns them.

use k8s_openapi::Resource as Kind;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kybern_api::object::Object;
use kybern_reconcile::plan::{Announce, controller_reference, reference};

/// Kubernetes cuts the prefix of a name so that prefix and suffix fit into a name.
const MAX_PREFIX: usize = 248;

/// A pod of `owner` (of the kind `K`), to be named by the server or by the caller.
pub(crate) fn pod<K: Kind>(owner: &Object, template: PodTemplateSpec) -> Pod {
    let meta = template.metadata.unwrap_or_default();
    let prefix: String = format!("{}-", owner.head.name).chars().take(MAX_PREFIX).collect();
    let metadata = ObjectMeta {
        generate_name: Some(prefix),
        namespace: Some(owner.head.namespace.to_string()),
        labels: meta.labels,
        annotations: meta.annotations,
        finalizers: meta.finalizers,
        owner_references: Some(vec![controller_reference::<K>(owner)]),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: template.spec, status: None }
}

/// The events about a pod that is created for `owner`.
pub(crate) fn announce_create<K: Kind>(owner: &Object) -> Announce {
    Announce {
        about: reference::<K>(owner),
        done: ("SuccessfulCreate", "Created pod: {}".into()),
        failed: ("FailedCreate", "Error creating: ".into()),
    }
}

/// The events about a pod that is deleted for `owner`.
pub(crate) fn announce_delete<K: Kind>(owner: &Object) -> Announce {
    Announce {
        about: reference::<K>(owner),
        done: ("SuccessfulDelete", "Deleted pod: {}".into()),
        failed: ("FailedDelete", "Error deleting: ".into()),
    }
}
