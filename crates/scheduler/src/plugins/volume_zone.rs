//! A volume that bears a zone or region is only used from there.

use crate::framework::{Events, Filter, Happening, Prepared};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use crate::volume::not_found;
use std::collections::HashSet;

/// Labels of volumes, and what today's nodes call the same.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

pub(super) struct VolumeZone;

/// A label that a volume bears, and the values that fit it.
struct Place<'a> {
    labels: (&'static str, &'static str),
    values: HashSet<&'a str>,
}

impl Place<'_> {
    fn holds(&self, node: &NodeInfo) -> bool {
        let value = node.label(self.labels.0).or_else(|| node.label(self.labels.1));
        value.is_some_and(|v| self.values.contains(v))
    }
}

/// The places of the pod's volumes, or why it cannot go anywhere.
fn places<'a>(pod: &PodInfo, snapshot: &'a Snapshot) -> Result<Vec<Place<'a>>, String> {
    let storage = &snapshot.world.storage;
    let mut places = Vec::new();
    for wanted in pod.claims.iter().filter(|c| !c.ephemeral) {
        let name = &wanted.name.name;
        let claim = storage.claim(&wanted.name).ok_or_else(|| not_found(name))?;
        if claim.volume.is_empty() {
            if claim.class.is_empty() {
                return Err("PersistentVolumeClaim had no pv name and storageClass name".into());
            }
            let Some(class) = storage.classes.get(&claim.class) else {
                return Err(format!("storageclass.storage.k8s.io \"{}\" not found", claim.class));
            };
            if class.waits {
                continue;
            }
            return Err("PersistentVolume had no name".into());
        }
        let Some(volume) = storage.volume(&claim.volume) else {
            return Err(format!("persistentvolume \"{}\" not found", claim.volume));
        };
        for labels in LABELS {
            if let Some((_, value)) = volume.labels.iter().find(|(k, _)| k == labels.0) {
                // Several zones of one volume stand in one value.
                places.push(Place { labels, values: value.split("__").collect() });
            }
        }
    }
    Ok(places)
}

impl Filter for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }
    fn events(&self) -> Events {
        Events::NODES.and(Events::CLAIM).and(Events::VOLUME).and(Events::STORAGE)
    }
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        match happening {
            Happening::Claim(name) => pod.claims.iter().any(|c| c.name == **name),
            Happening::NodeAdded(_) | Happening::NodeChanged(..) => happening.node_differs(|n| n.labels.clone()),
            _ => true,
        }
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        let places = match places(pod, snapshot) {
            Ok(places) if places.is_empty() => return Prepared::Skip,
            Ok(places) => places,
            Err(why) => return Prepared::Refuse(why),
        };
        Prepared::test(move |slot, _, refusal| {
            let Some(node) = snapshot.node(slot) else { return };
            // A cluster of one zone need not label its nodes.
            let placed = LABELS.iter().any(|(label, _)| node.label(label).is_some());
            if placed && !places.iter().all(|p| p.holds(node)) {
                refusal.for_good("node(s) had no available volume zone");
            }
        })
    }
}
