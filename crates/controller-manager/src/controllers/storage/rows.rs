//! What the storage controllers ask of volumes, claims and classes; made once per event.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kybern_api::meta::quantity::Quantity;
use kybern_api::meta::selector::Selector;
use kybern_api::object::Object;
use kybern_client::store::{Name, Row};
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who made a volume.
pub(super) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// The claim is bound on both sides.
pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The controller, not a person, put the two together.
pub(super) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// The node that the scheduler chose for a claim's first pod.
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// A PersistentVolume.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VolumeRow {
    pub(super) class: SmolStr,
    pub(super) attributes_class: SmolStr,
    pub(super) modes: Vec<SmolStr>,
    pub(super) is_block: bool,
    pub(super) size: i64,
    /// The claim it is for, and that claim's uid (empty: any claim of the name).
    pub(super) claim: Option<(Name, SmolStr)>,
    pub(super) phase: SmolStr,
    pub(super) deletes: bool,
    pub(super) is_bound_by_controller: bool,
    pub(super) provisioner: SmolStr,
}

/// A PersistentVolumeClaim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClaimRow {
    pub(super) class: SmolStr,
    pub(super) attributes_class: SmolStr,
    pub(super) modes: Vec<SmolStr>,
    pub(super) is_block: bool,
    pub(super) size: i64,
    pub(super) volume: SmolStr,
    pub(super) selector: Option<Selector>,
    pub(super) is_bound: bool,
    pub(super) node: SmolStr,
}

/// A StorageClass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClassRow {
    pub(super) provisioner: SmolStr,
    pub(super) waits: bool,
    pub(super) reclaim: SmolStr,
    pub(super) mount_options: Vec<String>,
    pub(super) grows: bool,
}

fn size(amounts: Option<&BTreeMap<String, Text>>) -> i64 {
    amounts.and_then(|a| a.get("storage")).and_then(|t| t.0.parse().ok()).map_or(0, Quantity::value)
}

fn words(list: Option<Vec<String>>) -> Vec<SmolStr> {
    list.unwrap_or_default().into_iter().map(SmolStr::from).collect()
}

fn annotation(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, key: &str) -> Option<SmolStr> {
    meta.annotations.as_ref()?.get(key).map(SmolStr::from)
}

/// An object that cannot be read (a defect of the store) has no row, and nothing is done about it.
fn row<T: Send + Sync + 'static>(object: &Object, made: Result<T, serde_json::Error>) -> Row {
    match made {
        Ok(row) => Arc::new(row),
        Err(error) => {
            tracing::error!(object = %object.head.key(), %error, "a stored object cannot be read");
            Arc::new(())
        }
    }
}

/// The row of a volume.
pub(crate) fn volume(object: &Object) -> Row {
    row(object, object.view::<PersistentVolume>().map(|v| of_volume(&v)))
}

fn of_volume(volume: &PersistentVolume) -> VolumeRow {
    let spec = volume.spec.clone().unwrap_or_default();
    let class = annotation(&volume.metadata, OLD_CLASS).or(spec.storage_class_name.map(SmolStr::from));
    let text = |t: Option<String>| SmolStr::from(t.unwrap_or_default());
    VolumeRow {
        class: class.unwrap_or_default(),
        attributes_class: text(spec.volume_attributes_class_name),
        modes: words(spec.access_modes),
        is_block: spec.volume_mode.as_deref() == Some("Block"),
        size: size(spec.capacity.as_ref()),
        claim: spec.claim_ref.map(|c| (Name::new(text(c.namespace), text(c.name)), text(c.uid))),
        phase: text(volume.status.as_ref().and_then(|s| s.phase.clone())),
        deletes: spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete"),
        is_bound_by_controller: annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some(),
        provisioner: annotation(&volume.metadata, PROVISIONED_BY).unwrap_or_default(),
    }
}

/// The row of a claim.
pub(crate) fn claim(object: &Object) -> Row {
    row(object, object.view::<PersistentVolumeClaim>().and_then(of_claim))
}

fn of_claim(claim: PersistentVolumeClaim) -> Result<ClaimRow, serde_json::Error> {
    let spec = claim.spec.unwrap_or_default();
    let selector = spec.selector.map(serde_json::to_value).transpose()?;
    let class = annotation(&claim.metadata, OLD_CLASS).or(spec.storage_class_name.map(SmolStr::from));
    let text = |t: Option<String>| SmolStr::from(t.unwrap_or_default());
    Ok(ClaimRow {
        class: class.unwrap_or_default(),
        attributes_class: text(spec.volume_attributes_class_name),
        modes: words(spec.access_modes),
        is_block: spec.volume_mode.as_deref() == Some("Block"),
        size: size(spec.resources.and_then(|r| r.requests).as_ref()),
        volume: text(spec.volume_name),
        selector: selector.map(|s| Selector::from_object(Some(&s)).unwrap_or(Selector::Nothing)),
        is_bound: annotation(&claim.metadata, BIND_COMPLETED).is_some(),
        node: annotation(&claim.metadata, SELECTED_NODE).unwrap_or_default(),
    })
}

/// The row of a class.
pub(crate) fn class(object: &Object) -> Row {
    let of = |c: StorageClass| ClassRow {
        provisioner: c.provisioner.into(),
        waits: c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
        reclaim: c.reclaim_policy.unwrap_or_default().into(),
        mount_options: c.mount_options.unwrap_or_default(),
        grows: c.allow_volume_expansion == Some(true),
    };
    row(object, object.view::<StorageClass>().map(of))
}
