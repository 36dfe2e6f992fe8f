//! Claims for one pod at a time, and disks that two pods cannot share.

use crate::framework::{Events, Filter, Happening, Prepared};
use crate::pod::{ClaimRef, Disk, PodInfo};
use crate::snapshot::Snapshot;
use crate::volume::not_found;
use serde_json::Value;

pub(super) struct VolumeRestrictions;

/// Are two disks the same, and would one of their users write?
fn disks_collide(a: &Disk, b: &Disk) -> bool {
    let same = |field: &str| a.source.get(field) == b.source.get(field);
    let read_only = |d: &Disk| d.source.get("readOnly").and_then(Value::as_bool).unwrap_or(false);
    let monitors = |d: &Disk| d.source.get("monitors").and_then(Value::as_array).cloned().unwrap_or_default();
    let one_disk = match a.kind {
        _ if a.kind != b.kind => false,
        "gcePersistentDisk" => same("pdName"),
        "awsElasticBlockStore" => return same("volumeID"),
        "iscsi" => same("iqn"),
        _ => same("pool") && same("image") && monitors(a).iter().any(|m| monitors(b).contains(m)),
    };
    one_disk && !(read_only(a) && read_only(b))
}

fn collide(a: &PodInfo, b: &PodInfo) -> bool {
    a.disks.iter().any(|d| b.disks.iter().any(|e| disks_collide(d, e)))
}

impl Filter for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }
    fn events(&self) -> Events {
        Events::NODE_ADDED.and(Events::POD_GONE).and(Events::CLAIM)
    }
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        let uses = |claim: &ClaimRef| pod.claims.iter().any(|c| c.name == claim.name);
        match happening {
            Happening::PodGone(gone) => collide(pod, gone) || gone.claims.iter().any(uses),
            Happening::Claim(name) => pod.claims.iter().any(|c| c.name == **name),
            _ => true,
        }
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        let mut exclusive: Vec<&ClaimRef> = Vec::new();
        for wanted in pod.claims.iter().filter(|c| !c.ephemeral) {
            match snapshot.world.storage.claim(&wanted.name) {
                None => return Prepared::Refuse(not_found(&wanted.name.name)),
                Some(claim) if claim.exclusive => exclusive.push(wanted),
                Some(_) => {}
            }
        }
        let users: i64 = exclusive.iter().map(|c| i64::from(snapshot.claim_users(&c.name) > 0)).sum();
        if pod.disks.is_empty() && exclusive.is_empty() {
            return Prepared::Skip;
        }
        Prepared::test(move |slot, what_if, refusal| {
            let there = snapshot.pods(slot).iter().any(|p| collide(pod, p) && !what_if.is_gone(p));
            if there || what_if.extra().iter().any(|p| collide(pod, p)) {
                return refusal.for_now("node(s) had no available disk");
            }
            let uses = |p: &PodInfo| {
                let mine = |c: &&&ClaimRef| p.claims.iter().any(|o| o.name == c.name);
                i64::try_from(exclusive.iter().filter(mine).count()).unwrap_or(i64::MAX)
            };
            if users + what_if.shift(uses) > 0 {
                let reason =
                    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
                refusal.for_now(reason);
            }
        })
    }
}
