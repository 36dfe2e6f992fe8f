//! The claim's side of binding.

use super::patch;
use super::rows::{BIND_COMPLETED, BOUND_BY_CONTROLLER, ClaimRow, ClassRow, VolumeRow};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kybern_client::store::{Item, Name};
use kybern_reconcile::Error;
use kybern_reconcile::def::Key;
use kybern_reconcile::plan::{Note, Plan, reference};
use kybern_reconcile::view::{View, World, decode};
use serde_json::json;

/// Tells outside provisioners that a claim is theirs.
const PROVISIONERS: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];

/// Binds a claim, or says why it is not bound.
pub(super) fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<PersistentVolumeClaim>(&key.namespace, &key.name) else {
        return Ok(Plan::none());
    };
    let Some(row) = item.row::<ClaimRow>() else { return Ok(Plan::none()) };
    let claim = Claim { item, row, view: world.view };
    match (row.is_bound, row.volume.is_empty()) {
        (false, _) if item.object.head.deleting.is_some() => Ok(Plan::none()),
        (false, true) => claim.find(),
        (false, false) => claim.take_named(),
        (true, _) => claim.keep(),
    }
}

struct Claim<'a> {
    item: &'a Item,
    row: &'a ClaimRow,
    view: &'a View,
}

impl<'a> Claim<'a> {
    fn volume(&self) -> Option<(&'a Item, &'a VolumeRow)> {
        let item = self.view.get::<PersistentVolume>("", &self.row.volume)?;
        Some((item, item.row()?))
    }
    fn class(&self) -> Option<&'a ClassRow> {
        self.view.get::<StorageClass>("", &self.row.class)?.row()
    }
    fn note(&self, warning: bool, reason: &str, message: impl Into<String>) -> Note {
        let about = reference::<PersistentVolumeClaim>(&self.item.object);
        Note { about, warning, reason: reason.into(), message: message.into() }
    }
    fn said(&self, warning: bool, reason: &str, message: impl Into<String>) -> Result<Plan, Error> {
        let mut plan = self.set_phase("Pending")?;
        plan.note(self.note(warning, reason, message));
        Ok(plan)
    }

    /// A claim that names no volume takes the smallest that suits it.
    fn find(&self) -> Result<Plan, Error> {
        let class = self.class();
        let waits = class.is_some_and(|c| c.waits) && self.row.node.is_empty();
        if let Some((volume, row)) = self.best(waits) {
            return self.bind(volume, row);
        }
        if waits {
            let text = "waiting for first consumer to be created before binding";
            return self.said(false, "WaitForFirstConsumer", text);
        }
        if self.row.class.is_empty() {
            let text = "no persistent volumes available for this claim and no storage class is set";
            return self.said(false, "FailedBinding", text);
        }
        let Some(class) = class else {
            let text = format!("storageclass.storage.k8s.io {:?} not found", self.row.class);
            return self.said(true, "ProvisioningFailed", text);
        };
        let mut plan = self.set_phase("Pending")?;
        let asked: PersistentVolumeClaim = decode(self.item)?;
        let told = asked.metadata.annotations.unwrap_or_default();
        if PROVISIONERS.iter().any(|key| told.get(*key).is_none_or(|p| *p != *class.provisioner)) {
            let annotations: serde_json::Map<_, _> =
                PROVISIONERS.iter().map(|key| ((*key).to_owned(), json!(class.provisioner))).collect();
            plan.act(patch::<PersistentVolumeClaim>(self.item, "", json!({"metadata": {"annotations": annotations}})));
            plan.note(self.note(false, "ExternalProvisioning", format!("Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.provisioner)));
        }
        Ok(plan)
    }

    /// Of the volumes that are free and suit the claim the smallest; one that was set aside for it
    /// before all others. While the claim waits for its pod, only such a one.
    fn best(&self, waits: bool) -> Option<(&'a Item, &'a VolumeRow)> {
        let name = Name::of(&self.item.object);
        let rows = self.view.of::<PersistentVolume>().iter().filter_map(|i| Some((i, i.row::<VolumeRow>()?)));
        let mut best: Option<(bool, i64, &Item, &VolumeRow)> = None;
        for (item, volume) in rows {
            let is_set_aside = volume.claim.as_ref().is_some_and(|(n, uid)| *n == name && self.is_uid(uid));
            let is_free = volume.claim.is_none() && volume.phase == "Available" && !waits;
            if !(is_set_aside || is_free) || self.mismatch(item, volume, is_set_aside).is_some() {
                continue;
            }
            let rank = (!is_set_aside, volume.size);
            if best.as_ref().is_none_or(|b| rank < (b.0, b.1)) {
                best = Some((rank.0, rank.1, item, volume));
            }
        }
        best.map(|(_, _, item, volume)| (item, volume))
    }

    fn is_uid(&self, uid: &str) -> bool {
        uid.is_empty() || uid == self.item.object.head.uid
    }

    /// Why a volume does not do for the claim; the selector does not matter for one that was named.
    fn mismatch(&self, item: &Item, volume: &VolumeRow, is_named: bool) -> Option<&'static str> {
        let claim = self.row;
        match () {
            () if item.object.head.deleting.is_some() => Some("requested PV is being deleted"),
            () if volume.size < claim.size => Some("requested PV is too small"),
            () if volume.class != claim.class => Some("storageClassName does not match"),
            () if volume.attributes_class != claim.attributes_class => Some("volumeAttributesClassName does not match"),
            () if volume.is_block != claim.is_block => Some("incompatible volumeMode"),
            () if claim.modes.iter().any(|m| !volume.modes.contains(m)) => Some("incompatible accessMode"),
            () if !is_named && claim.selector.as_ref().is_some_and(|s| !s.matches(&*item.object.head)) => {
                Some("labels do not match")
            }
            () => None,
        }
    }

    /// A claim that names its volume gets that or none.
    fn take_named(&self) -> Result<Plan, Error> {
        let Some((volume, row)) = self.volume() else { return self.set_phase("Pending") };
        let name = Name::of(&self.item.object);
        match &row.claim {
            None => match self.mismatch(volume, row, true) {
                None => self.bind(volume, row),
                Some(why) => {
                    let text = format!("Cannot bind to requested volume {:?}: {why}", self.row.volume);
                    self.said(true, "VolumeMismatch", text)
                }
            },
            Some((claim, uid)) if *claim == name && self.is_uid(uid) => self.bind(volume, row),
            Some(_) => {
                let text = format!("volume {:?} already bound to a different claim.", self.row.volume);
                self.said(true, "FailedBinding", text)
            }
        }
    }

    /// Names each in the other, the claim in the volume first: that is what decides.
    fn bind(&self, item: &Item, volume: &VolumeRow) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        let head = &self.item.object.head;
        if volume.claim.as_ref().is_none_or(|(_, uid)| *uid != head.uid) {
            let claim = reference::<PersistentVolumeClaim>(&self.item.object);
            let mut change = json!({"spec": {"claimRef": claim}});
            if volume.claim.is_none() {
                change["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
            }
            plan.act(patch::<PersistentVolume>(item, "", change));
        }
        let mut annotations = json!({BIND_COMPLETED: "yes"});
        let mut change = json!({});
        if self.row.volume.is_empty() {
            annotations[BOUND_BY_CONTROLLER] = json!("yes");
            change["spec"] = json!({"volumeName": item.object.head.name});
        }
        change["metadata"] = json!({"annotations": annotations});
        plan.act(patch::<PersistentVolumeClaim>(self.item, "", change));
        Ok(plan)
    }

    /// A bound claim shows what its volume offers, or that it is lost.
    fn keep(&self) -> Result<Plan, Error> {
        let lost = |reason: &str, text: &str| {
            let mut plan = self.set_phase("Lost")?;
            if !plan.is_empty() {
                plan.note(self.note(true, reason, text));
            }
            Ok(plan)
        };
        if self.row.volume.is_empty() {
            return lost(
                "ClaimLost",
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
            );
        }
        let Some((volume, row)) = self.volume() else {
            return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
        };
        match &row.claim {
            None => self.bind(volume, row),
            Some((_, uid)) if *uid == self.item.object.head.uid => self.show(volume),
            Some((claim, uid)) if *claim == Name::of(&self.item.object) && uid.is_empty() => self.bind(volume, row),
            Some(_) => lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"),
        }
    }

    fn show(&self, volume: &Item) -> Result<Plan, Error> {
        let (claim, volume): (PersistentVolumeClaim, PersistentVolume) = (decode(self.item)?, decode(volume)?);
        let spec = volume.spec.unwrap_or_default();
        let status = claim.status.unwrap_or_default();
        let is_bound = status.phase.as_deref() == Some("Bound");
        let mut plan = Plan::none();
        if is_bound && status.access_modes == spec.access_modes && (status.capacity == spec.capacity) {
            return Ok(plan);
        }
        let change = json!({"phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity});
        plan.act(patch::<PersistentVolumeClaim>(self.item, "status", json!({ "status": change })));
        Ok(plan)
    }

    fn set_phase(&self, phase: &str) -> Result<Plan, Error> {
        let claim: PersistentVolumeClaim = decode(self.item)?;
        let mut plan = Plan::none();
        if claim.status.and_then(|s| s.phase).as_deref() != Some(phase) {
            plan.act(patch::<PersistentVolumeClaim>(self.item, "status", json!({"status": {"phase": phase}})));
        }
        Ok(plan)
    }
}
