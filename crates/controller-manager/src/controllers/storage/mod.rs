//! Storage: claims and volumes find each other, volumes are made and given back, and nothing goes
//! while it is used.

mod claims;
mod ephemeral;
mod local_path;
mod protection;
mod reclaim;
mod rows;
mod volumes;

pub(crate) use ephemeral::def as ephemeral;
pub(crate) use local_path::def as local_path;
pub(crate) use protection::{claims as protect_claims, volumes as protect_volumes};
pub(crate) use rows::{claim as claim_row, class as class_row, volume as volume_row};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kybern_client::store::{Delta, Item, Name};
use kybern_client::transport::MERGE_PATCH;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Ref};
use kybern_reconcile::view::View;
use rows::{ClaimRow, VolumeRow};
use serde_json::{Value, json};
use std::sync::Arc;

/// Marks a key that is about a volume, not a claim.
const VOLUME: &str = "volume";

/// Binds claims to volumes.
pub(crate) fn binder() -> ControllerDef {
    ControllerDef {
        name: "persistent-volume-binder",
        watches: vec![
            Watch::mapped::<PersistentVolumeClaim>(of_claim),
            Watch::mapped::<PersistentVolume>(of_volume),
            Watch::mapped::<StorageClass>(of_class),
        ],
        writes: vec![
            Access::to::<PersistentVolume>(&["update", "patch", "delete"]),
            Access::sub::<PersistentVolume>("status", &["update", "patch"]),
            Access::to::<PersistentVolumeClaim>(&["update", "patch"]),
            Access::sub::<PersistentVolumeClaim>("status", &["update", "patch"]),
        ],
        seeds: Vec::new(),
        // One volume must not be promised to two claims.
        workers: 1,
        plan: Arc::new(
            |world, key| if key.kind == VOLUME { volumes::plan(world, key) } else { claims::plan(world, key) },
        ),
    }
}

fn volume_key(name: &str) -> Key {
    Key { kind: VOLUME.into(), namespace: Default::default(), name: name.into() }
}

fn key_of(name: &Name) -> Key {
    Key::new(name.namespace.clone(), name.name.clone())
}

fn of_claim(delta: &Delta, _: &View) -> Vec<Key> {
    let volume = |i: &Item| i.row::<ClaimRow>().filter(|r| !r.volume.is_empty()).map(|r| volume_key(&r.volume));
    let volumes = [&delta.old, &delta.new].into_iter().flatten().filter_map(volume);
    delta.latest().map(Key::of).into_iter().chain(volumes).collect()
}

/// A volume concerns itself, its claim, and every claim that has none and might take it.
fn of_volume(delta: &Delta, view: &View) -> Vec<Key> {
    let mut keys: Vec<Key> = delta.latest().map(|v| volume_key(&v.object.head.name)).into_iter().collect();
    for item in [&delta.old, &delta.new].into_iter().flatten() {
        let Some(row) = item.row::<VolumeRow>() else { continue };
        match &row.claim {
            Some((claim, _)) => keys.push(key_of(claim)),
            None => keys.extend(unbound(view, |c| {
                c.class == row.class && c.volume.is_empty() || c.volume == item.object.head.name
            })),
        }
    }
    keys
}

fn of_class(delta: &Delta, view: &View) -> Vec<Key> {
    let Some(class) = delta.latest() else { return Vec::new() };
    unbound(view, |c| c.class == class.object.head.name)
}

fn unbound(view: &View, wanted: impl Fn(&ClaimRow) -> bool) -> Vec<Key> {
    let claims = view.of::<PersistentVolumeClaim>().iter();
    claims.filter(|i| i.row::<ClaimRow>().is_some_and(|c| !c.is_bound && wanted(c))).map(Key::of).collect()
}

/// A merge patch of an object, if it still is as it was seen.
fn patch<K: k8s_openapi::Resource>(item: &Item, subresource: &'static str, mut patch: Value) -> Action {
    patch["metadata"]["resourceVersion"] = json!(item.object.revision.to_string());
    let to = Ref::to(&kybern_client::typed::resource::<K>(), &item.object);
    Action::Patch { to, subresource, media_type: MERGE_PATCH, patch }
}
