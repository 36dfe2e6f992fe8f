//! Ports taken on the node itself can be taken once.

use crate::framework::{Events, Filter, Happening, Prepared};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

pub(super) struct NodePorts;

fn collide(a: &PodInfo, b: &PodInfo) -> bool {
    a.ports.iter().any(|p| b.ports.iter().any(|q| p.collides(q)))
}

impl Filter for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }
    fn events(&self) -> Events {
        Events::NODE_ADDED.and(Events::POD_GONE)
    }
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        match happening {
            Happening::PodGone(gone) => collide(pod, gone),
            _ => true,
        }
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        if pod.ports.is_empty() {
            return Prepared::Skip;
        }
        Prepared::test(move |slot, what_if, refusal| {
            let taken = snapshot.pods(slot).iter().any(|p| collide(pod, p) && !what_if.is_gone(p));
            if taken || what_if.extra().iter().any(|p| collide(pod, p)) {
                refusal.for_now("node(s) didn't have free ports for the requested pod ports");
            }
        })
    }
}
