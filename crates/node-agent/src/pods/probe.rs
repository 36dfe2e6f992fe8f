//! Probes: a task per container that keeps the marks `started`, `ready` and `unhealthy`.

use super::handlers::{self, Target};
use super::plan::{Marks, Unhealthy};
use super::{hooks, http_action};
use crate::events::{Recorder, Subject};
use crate::runtime::Runtime;
use k8s_openapi::api::core::v1::Probe;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Everything a container's task needs.
pub struct Watched {
    /// The runtime.
    pub runtime: Arc<dyn Runtime>,
    /// The container.
    pub target: Target,
    /// Where results go.
    pub marks: Arc<Mutex<Marks>>,
    /// Told when a mark changes.
    pub poke: Arc<Notify>,
    /// For the event `Unhealthy`.
    pub events: Recorder,
    /// What events are about.
    pub subject: Subject,
    /// Was it started just now, so that postStart is due?
    pub fresh: bool,
    /// Has it been reported ready before this task began (by an agent before this one)?
    pub was_ready: bool,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default))
}

fn threshold(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
}

impl Watched {
    /// Runs until the task is aborted (when the container has ended).
    pub async fn run(self) {
        let c = &self.target.container;
        if self.fresh
            && let Some(hook) = c.lifecycle.as_ref().and_then(|l| l.post_start.as_ref())
            && let Err(why) = hooks::run(&*self.runtime, &self.target, hook, Duration::MAX).await
        {
            self.events.warn(&self.subject, "FailedPostStartHook", format!("PostStartHook failed: {why}"));
            return self.fail("FailedPostStartHook".into(), None);
        }
        self.mark(|m, id| m.hooking.remove(&id));
        if let Some(startup) = &c.startup_probe
            && !self.wait_for_startup(startup).await
        {
            let why = format!("Container {} failed startup probe, will be restarted", c.name);
            return self.fail(why, startup.termination_grace_period_seconds);
        }
        self.mark(|m, id| m.started.insert(id));
        tokio::join!(self.keep_ready(c.readiness_probe.as_ref()), self.keep_alive(c.liveness_probe.as_ref()));
    }

    fn mark(&self, change: impl FnOnce(&mut Marks, String) -> bool) {
        // Whether the mark was new does not matter.
        let _ = change(&mut self.marks.lock(), self.target.id.clone());
        self.poke.notify_one();
    }
    /// The container must end, with a grace of its own or the pod's.
    fn fail(&self, why: String, grace: Option<i64>) {
        self.mark(|m, id| m.unhealthy.insert(id, Unhealthy { why, grace }).is_none());
    }

    /// One attempt.
    async fn attempt(&self, probe: &Probe) -> Result<(), String> {
        let limit = seconds(probe.timeout_seconds, 1);
        if let Some(a) = &probe.exec {
            handlers::exec(&*self.runtime, &self.target, a, limit).await
        } else if let Some(a) = &probe.http_get {
            http_action::get(&self.target, a, limit).await
        } else if let Some(a) = &probe.tcp_socket {
            handlers::tcp(&self.target, a, limit).await
        } else if let Some(a) = &probe.grpc {
            handlers::grpc(&self.target, a, limit).await
        } else {
            Ok(())
        }
    }

    /// Probes until `over` says so; it is given the results' runs of success and failure.
    async fn each(&self, kind: &str, probe: &Probe, mut over: impl FnMut(u32, u32) -> bool) {
        tokio::time::sleep(Duration::from_secs(
            probe.initial_delay_seconds.map_or(0, |s| s.max(0).unsigned_abs().into()),
        ))
        .await;
        let mut ticks = tokio::time::interval(seconds(probe.period_seconds, 10));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut good, mut bad) = (0u32, 0u32);
        loop {
            ticks.tick().await;
            match self.attempt(probe).await {
                Ok(()) => (good, bad) = (good.saturating_add(1), 0),
                Err(why) => {
                    (good, bad) = (0, bad.saturating_add(1));
                    self.events.warn(&self.subject, "Unhealthy", format!("{kind} probe failed: {why}"));
                }
            }
            if over(good, bad) {
                return;
            }
        }
    }

    async fn wait_for_startup(&self, probe: &Probe) -> bool {
        let limit = threshold(probe.failure_threshold, 3);
        let mut passed = false;
        self.each("Startup", probe, |good, bad| {
            passed = good > 0;
            passed || bad >= limit
        })
        .await;
        passed
    }

    async fn keep_ready(&self, probe: Option<&Probe>) {
        let Some(probe) = probe else { return self.mark(|m, id| m.ready.insert(id)) };
        let (up, down) = (threshold(probe.success_threshold, 1), threshold(probe.failure_threshold, 3));
        let mut ready = self.was_ready;
        self.each("Readiness", probe, |good, bad| {
            if !ready && good >= up {
                ready = true;
                self.mark(|m, id| m.ready.insert(id));
            } else if ready && bad >= down {
                ready = false;
                self.mark(|m, id| m.ready.remove(&id));
            }
            false
        })
        .await;
    }

    async fn keep_alive(&self, probe: Option<&Probe>) {
        let Some(probe) = probe else { return };
        let limit = threshold(probe.failure_threshold, 3);
        self.each("Liveness", probe, |_, bad| bad >= limit).await;
        let why = format!("Container {} failed liveness probe, will be restarted", self.target.container.name);
        self.fail(why, probe.termination_grace_period_seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake::Fake;
    use serde_json::json;

    fn watched(fake: &Arc<Fake>, container: serde_json::Value) -> (Watched, Arc<Mutex<Marks>>, Arc<Notify>) {
        let (marks, poke) = (Arc::new(Mutex::new(Marks::default())), Arc::new(Notify::new()));
        let watched = Watched {
            runtime: fake.clone(),
            target: Target {
                id: "c1".into(),
                ip: "127.0.0.1".into(),
                container: serde_json::from_value(container).unwrap(),
            },
            marks: marks.clone(),
            poke: poke.clone(),
            events: Recorder::silent(),
            subject: Subject::default(),
            fresh: true,
            was_ready: false,
        };
        (watched, marks, poke)
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_comes_and_goes_with_its_thresholds() {
        let fake = Arc::new(Fake::default());
        fake.state.lock().exec_code = 1;
        let probe =
            json!({"exec": {"command": ["x"]}, "periodSeconds": 1, "failureThreshold": 2, "successThreshold": 1});
        let (w, marks, _) = watched(&fake, json!({"name": "a", "readinessProbe": probe}));
        let task = tokio::spawn(w.run());
        tokio::time::sleep(Duration::from_millis(3500)).await;
        assert!(marks.lock().started.contains("c1") && !marks.lock().ready.contains("c1"));
        fake.state.lock().exec_code = 0;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(marks.lock().ready.contains("c1"));
        fake.state.lock().exec_code = 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(marks.lock().ready.contains("c1"), "one failure is not two");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!marks.lock().ready.contains("c1"));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn liveness_waits_for_startup() {
        let fake = Arc::new(Fake::default());
        fake.state.lock().exec_code = 1;
        let probe =
            |failures: i32| json!({"exec": {"command": ["x"]}, "periodSeconds": 1, "failureThreshold": failures});
        let (w, marks, _) = watched(&fake, json!({"name": "a", "livenessProbe": probe(1), "startupProbe": probe(60)}));
        let task = tokio::spawn(w.run());
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        assert!(marks.lock().unhealthy.is_empty() && marks.lock().started.is_empty());
        fake.state.lock().exec_code = 0;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(marks.lock().started.contains("c1"));
        fake.state.lock().exec_code = 1;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(marks.lock().unhealthy["c1"].why.contains("liveness"));
        task.abort();
    }
}
