//! Taints keep pods away that do not tolerate them, strictly or (PreferNoSchedule) mildly.

use crate::framework::{Events, Filter, FilterFn, Normalize, Score, ScoreFn};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{Taint, Toleration};

pub(super) struct TaintToleration;

/// Does a toleration cover a taint?
pub(super) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().filter(|e| !e.is_empty()).is_none_or(|e| e == taint.effect);
    let key = toleration.key.as_deref().filter(|k| !k.is_empty());
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value =
        || exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    effect && key.map_or(exists, |k| k == taint.key && value())
}

fn is_tolerated(pod: &PodInfo, taint: &Taint) -> bool {
    pod.tolerations.iter().any(|t| tolerates(t, taint))
}

impl Filter for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }
    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.and(Events::NODE_TAINTS)
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<FilterFn<'a>> {
        Some(Box::new(move |slot, reasons| {
            let strict = |t: &&Taint| t.effect == "NoSchedule" || t.effect == "NoExecute";
            let mut taints = snapshot.node(slot).into_iter().flat_map(|n| &n.taints).filter(strict);
            if let Some(taint) = taints.find(|t| !is_tolerated(pod, t)) {
                let value = taint.value.as_deref().unwrap_or_default();
                reasons.push(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key).into());
            }
        }))
    }
}

impl Score for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }
    fn weight(&self) -> i64 {
        3
    }
    fn normalize(&self) -> Normalize {
        Normalize::LowestBest
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        Some(Box::new(move |slot| {
            let mild =
                snapshot.node(slot).into_iter().flat_map(|n| &n.taints).filter(|t| t.effect == "PreferNoSchedule");
            i64::try_from(mild.filter(|t| !is_tolerated(pod, t)).count()).unwrap_or(i64::MAX)
        }))
    }
}
