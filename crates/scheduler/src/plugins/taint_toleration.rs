//! Taints keep pods away that do not tolerate them, strictly or (PreferNoSchedule) mildly.

use crate::framework::{Events, Filter, Happening, Normalize, Prepared, Score, ScoreFn};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{Taint, Toleration};
use kybern_api::placement::tolerates;

pub(super) struct TaintToleration;

fn is_tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| tolerates(t, taint))
}

/// Do these tolerations open a node?
pub(super) fn opens(tolerations: &[Toleration], node: &NodeInfo) -> bool {
    node.strict_taints().all(|t| is_tolerated(tolerations, t))
}

impl Filter for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }
    fn events(&self) -> Events {
        Events::NODES
    }
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        happening.node_differs(|n| n.taints.clone()) && happening.node().is_some_and(|n| opens(&pod.tolerations, n))
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        if snapshot.marked().strict == 0 {
            return Prepared::Skip;
        }
        Prepared::test(move |slot, _, refusal| {
            if snapshot.marks(slot).strict && !snapshot.node(slot).is_some_and(|n| opens(&pod.tolerations, n)) {
                refusal.for_good("node(s) had untolerated taint(s)");
            }
        })
    }
}

impl Score for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }
    fn normalize(&self) -> Normalize {
        Normalize::LowestBest
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        if snapshot.marked().mild == 0 {
            return None;
        }
        Some(Box::new(move |slot| {
            if !snapshot.marks(slot).mild {
                return 0;
            }
            let mild = snapshot.node(slot).into_iter().flat_map(NodeInfo::mild_taints);
            i64::try_from(mild.filter(|t| !is_tolerated(&pod.tolerations, t)).count()).unwrap_or(i64::MAX)
        }))
    }
}
