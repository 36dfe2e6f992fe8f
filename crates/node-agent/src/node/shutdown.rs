//! Graceful node shutdown: on SIGPWR the node takes no more pods and ends those it has, the critical ones
//! last, before the machine goes.

use crate::pods::Command;
use crate::pods::status::Ending;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kybern_client::informer::Informer;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The traditional sign of failing power.
const SIGPWR: i32 = 30;
/// What ordinary pods get, and critical ones after them.
const ORDINARY: SignedDuration = SignedDuration::from_secs(20);
const CRITICAL: SignedDuration = SignedDuration::from_secs(10);
/// Killed containers still have to be seen dead and reported.
const REPORT: Duration = Duration::from_secs(5);

/// What a shutdown works with.
pub struct Shutdown {
    /// The node's pods.
    pub pods: Arc<Informer>,
    /// Orders to them.
    pub orders: mpsc::Sender<Command>,
    /// Who must know that the node is leaving.
    pub leaving: watch::Sender<bool>,
}

impl Shutdown {
    /// Waits for the signal; then ends the node's pods and, through `stop`, the agent.
    pub async fn run(self, stop: CancellationToken) {
        let mut signals = match signal(SignalKind::from_raw(SIGPWR)) {
            Ok(signals) => signals,
            Err(e) => return tracing::warn!(error = %e, "a shutdown of the machine will not be noticed"),
        };
        if stop.run_until_cancelled(signals.recv()).await.flatten().is_none() {
            return;
        }
        tracing::info!("the machine is going down: ending the pods");
        self.leaving.send_replace(true);
        for (critical, limit) in [(false, ORDINARY), (true, CRITICAL)] {
            let chosen = self.live(|pod| is_critical(pod) == critical);
            self.end(&chosen, limit).await;
        }
        stop.cancel();
    }

    fn live(&self, wanted: impl Fn(&Pod) -> bool) -> Vec<Pod> {
        let pods = self.pods.list();
        pods.iter().filter_map(|i| i.object.view::<Pod>().ok()).filter(|p| !is_over(p) && wanted(p)).collect()
    }

    /// Ends these pods and waits until they have ended, as long as they may take.
    async fn end(&self, pods: &[Pod], limit: SignedDuration) {
        let mut waiting: BTreeSet<String> = BTreeSet::new();
        for pod in pods {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            // A closed queue means that the agent is ending already.
            self.orders.send(Command::End { uid: uid.clone(), ending: ending(pod, limit) }).await.ok();
            waiting.insert(uid);
        }
        let mut changes = self.pods.subscribe();
        let over = async {
            while !waiting.is_empty()
                && let Some(change) = changes.recv().await
            {
                let uid = change.new.as_ref().or(change.old.as_ref()).map(|i| i.object.head.uid.to_string());
                let lives = change.new.is_some_and(|i| i.object.view::<Pod>().is_ok_and(|p| !is_over(&p)));
                if !lives && let Some(uid) = uid {
                    waiting.remove(&uid);
                }
            }
        };
        let patience = Duration::try_from(limit).unwrap_or_default() + REPORT;
        if tokio::time::timeout(patience, over).await.is_err() {
            tracing::warn!("some pods have not ended in time");
        }
    }
}

/// The pod's end, with its own grace where that is shorter.
fn ending(pod: &Pod, limit: SignedDuration) -> Ending {
    let own = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(i64::MAX);
    Ending {
        reason: "Terminated".into(),
        message: "Pod was terminated in response to imminent node shutdown.".into(),
        grace: Some(own.min(limit.as_secs())),
        disruption: true,
    }
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed")
}

fn is_critical(pod: &Pod) -> bool {
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    priority >= super::guard::CRITICAL
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_gets_no_more_than_its_own_grace() {
        let pod = |grace: i64, priority: i32| -> Pod {
            let spec = json!({"containers": [], "terminationGracePeriodSeconds": grace, "priority": priority});
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
        };
        assert_eq!(ending(&pod(5, 0), ORDINARY).grace, Some(5));
        assert_eq!(ending(&pod(600, 0), ORDINARY).grace, Some(20));
        assert!(is_critical(&pod(1, 2_000_001_000)) && !is_critical(&pod(1, 1000)));
    }
}
