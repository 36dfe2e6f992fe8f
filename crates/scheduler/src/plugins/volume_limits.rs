//! A node can have so many volumes of a driver attached and no more.

use crate::framework::{Events, Filter, Happening, Prepared};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use smol_str::SmolStr;
use std::collections::HashSet;

pub(super) struct VolumeLimits;

/// Driver and volume of each of the pod's claims, as far as they are known.
fn volumes(pod: &PodInfo, snapshot: &Snapshot) -> Vec<(SmolStr, SmolStr)> {
    let storage = &snapshot.world.storage;
    let volume = |wanted: &crate::pod::ClaimRef| {
        let claim = storage.claim(&wanted.name)?;
        match storage.volume(&claim.volume) {
            Some(volume) => volume.csi.clone(),
            // One that is yet to be made counts as a volume of its own.
            None => {
                let own = format!("{}/{}", claim.name.namespace, claim.name.name);
                Some((storage.classes.get(&claim.class)?.provisioner.clone(), own.into()))
            }
        }
    };
    pod.claims.iter().filter_map(volume).collect()
}

impl Filter for VolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }
    fn events(&self) -> Events {
        let claims = Events::CLAIM.and(Events::VOLUME);
        Events::CSI_NODE.and(Events::NODE_ADDED).and(Events::POD_GONE).and(claims)
    }
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        match happening {
            Happening::PodGone(gone) => !gone.claims.is_empty(),
            Happening::Claim(name) => pod.claims.iter().any(|c| c.name == **name),
            _ => true,
        }
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        let limits = &snapshot.world.storage.limits;
        let new: HashSet<(SmolStr, SmolStr)> = volumes(pod, snapshot).into_iter().collect();
        if new.is_empty() || limits.is_empty() {
            return Prepared::Skip;
        }
        let drivers: HashSet<SmolStr> = new.iter().map(|(driver, _)| driver.clone()).collect();
        Prepared::test(move |slot, what_if, refusal| {
            let Some(limits) = snapshot.node(slot).and_then(|n| limits.get(&n.name)) else { return };
            let stay = snapshot.pods(slot).iter().map(AsRef::as_ref).filter(|p| !what_if.is_gone(p));
            let all = stay.chain(what_if.extra().iter().copied()).flat_map(|p| volumes(p, snapshot));
            let used: HashSet<(SmolStr, SmolStr)> = all.collect();
            let full = |driver: &SmolStr| {
                let Some(limit) = limits.0.get(driver) else { return false };
                let of = |set: &HashSet<(SmolStr, SmolStr)>| set.iter().filter(|(d, _)| d == driver).count();
                let more = new.difference(&used).filter(|(d, _)| d == driver).count();
                more > 0 && i64::try_from(of(&used) + more).is_ok_and(|n| n > *limit)
            };
            if drivers.iter().any(full) {
                refusal.for_now("node(s) exceed max volume count");
            }
        })
    }
}
