//! A pod's volumes must be reachable from its node, or be found or made there.

use crate::framework::{Events, Filter, Happening, Prepared};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

pub(super) struct VolumeBinding;

impl Filter for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
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
        if pod.claims.is_empty() {
            return Prepared::Skip;
        }
        let storage = &snapshot.world.storage;
        let claims = match storage.claims_of(pod) {
            Ok(claims) => claims,
            Err(why) => return Prepared::Refuse(why),
        };
        Prepared::test(move |slot, _, refusal| {
            let Some(node) = snapshot.node(slot) else { return };
            if let Err(reasons) = storage.plan(&claims, node) {
                reasons.into_iter().for_each(|r| refusal.for_good(r));
            }
        })
    }
}
