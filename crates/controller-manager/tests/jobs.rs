//! Jobs on the real API server, with their controller killed again and again: every pod is counted
//! once, whatever is reported of it, and none is made too many.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kybern_api::seam::{Clock, SystemIds};
use kybern_client::informer::Informer;
use kybern_client::set::InformerSet;
use kybern_client::store::{Item, Name, Store};
use kybern_client::transport::MERGE_PATCH;
use kybern_client::typed;
use kybern_client::write::{At, DeleteOptions, Writer};
use kybern_controller_manager::{CertificateSigner, Config, run};
use kybern_testkit::World;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

struct NoSigner;
impl CertificateSigner for NoSigner {
    fn sign(&self, _: &str, _: &str, _: &[String], _: Option<u32>, _: jiff::Timestamp) -> Result<String, String> {
        Err("not in this test".into())
    }
}

struct Cluster {
    world: World,
    writer: Writer,
    informers: InformerSet,
    _stop: DropGuard,
}

/// Controllers that run until they are dropped, in the middle of whatever they do.
struct Controllers(tokio::task::JoinHandle<()>);
impl Drop for Controllers {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Cluster {
    async fn start() -> Self {
        let world = World::start().await;
        let cancel = CancellationToken::new();
        let admin = world.admin();
        Self {
            writer: Writer::new(Arc::clone(&admin), "test", 0),
            informers: InformerSet::new(admin, HashMap::new(), cancel.clone()),
            world,
            _stop: cancel.drop_guard(),
        }
    }
    fn controllers(&self) -> Controllers {
        let world = self.world.clone();
        let config = Config {
            clock: self.world.clock.clone(),
            ids: Arc::new(SystemIds),
            cluster_cidr: "10.42.0.0/16".parse().expect("net"),
            ca_pem: "CA".into(),
            signer: Arc::new(NoSigner),
            metrics: Arc::new(kybern_controller_manager::metrics::NoMetrics),
            transports: Arc::new(move |_| world.admin()),
            term: 0,
            holder: "s1_1".into(),
        };
        Controllers(tokio::spawn(run(config, CancellationToken::new())))
    }
    async fn create<K: k8s_openapi::Resource>(&self, mut object: Value) {
        object["kind"] = json!(K::KIND);
        object["apiVersion"] = json!(K::API_VERSION);
        let at = At { resource: &typed::resource::<K>(), namespace: "default", name: "", subresource: "" };
        self.writer.create(at, &object).await.expect("create");
    }
    async fn patch<K: k8s_openapi::Resource>(&self, name: &str, subresource: &str, patch: Value) {
        let at = At { resource: &typed::resource::<K>(), namespace: "default", name, subresource };
        self.writer.patch(at, MERGE_PATCH, &patch).await.expect("patch");
    }
    fn informer<K: k8s_openapi::Resource>(&self) -> Arc<Informer> {
        self.informers.all(&typed::resource::<K>())
    }
    async fn until<K: k8s_openapi::Resource>(&self, what: &str, condition: impl Fn(&Store) -> bool) {
        let informer = self.informer::<K>();
        let reached = tokio::time::timeout(Duration::from_secs(20), informer.until(condition)).await;
        let have = informer.list().iter().filter_map(|i| i.object.tree().ok()).fold(String::new(), |text, tree| {
            format!("{text}\n{} {} {}", tree["metadata"]["name"], tree["metadata"]["finalizers"], tree["status"])
        });
        assert!(reached.is_ok(), "{what}; there is: {have}");
    }
    /// Reports how the first pod that still runs ends, twice, as a node that stutters does.
    async fn end_pod(&self, phase: &str) {
        let pods = self.informer::<Pod>().list();
        let pod = pods.iter().find(|p| is_active(p)).expect("a pod that runs");
        let name = pod.object.head.name.as_str();
        for status in [json!({"phase": phase}), json!({"phase": phase, "message": "again"})] {
            self.patch::<Pod>(name, "status", json!({"status": status})).await;
        }
        let name = Name::of(&pod.object);
        self.until::<Pod>("the pod's end is seen", |s| !s.get(&name).is_some_and(is_active)).await;
    }
    fn job(&self, name: &str) -> Value {
        let list = self.informer::<Job>().list();
        list.iter().find(|j| j.object.head.name == name).and_then(|j| j.object.tree().ok()).unwrap_or_default()
    }
}

fn template() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "work:1"}]}})
}

fn is_active(pod: &Item) -> bool {
    let phase = pod.object.tree().unwrap_or_default()["status"]["phase"].clone();
    pod.object.head.deleting.is_none() && phase != "Succeeded" && phase != "Failed"
}

fn active(store: &Store) -> usize {
    store.iter().filter(|p| is_active(p)).count()
}

fn has_condition(store: &Store, job: &str, kind: &str) -> bool {
    let tree = store.get(&Name::new("default", job)).and_then(|i| i.object.tree().ok()).unwrap_or_default();
    let conditions = tree["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c| c["type"] == kind && c["status"] == "True")
}

#[tokio::test]
async fn a_job_whose_controller_is_killed_all_the_time_counts_every_pod_once() {
    const COMPLETIONS: usize = 24;
    let c = Cluster::start().await;
    c.create::<Job>(json!({"metadata": {"name": "work"}, "spec":
        {"parallelism": 4, "completions": COMPLETIONS, "backoffLimit": 100, "template": template()}}))
        .await;
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for round in 0..COMPLETIONS {
        let controllers = c.controllers();
        // A different number of writes is let through each time before the kill.
        let wanted = 4.min(COMPLETIONS - round);
        c.until::<Pod>("its pods", |s| active(s) == wanted).await;
        c.end_pod("Succeeded").await;
        for _ in 0..round * 3 {
            tokio::task::yield_now().await;
        }
        drop(controllers);
        seen.extend(c.informer::<Pod>().list().iter().map(|p| p.object.head.uid.to_string()));
    }
    let _controllers = c.controllers();
    c.until::<Job>("the job is complete", |s| has_condition(s, "work", "Complete")).await;
    let status = c.job("work")["status"].clone();
    assert_eq!(status["succeeded"], COMPLETIONS, "{status}");
    assert_eq!((&status["failed"], &status["uncountedTerminatedPods"]), (&Value::Null, &json!({})), "{status}");
    let pods = c.informer::<Pod>().list();
    assert_eq!(pods.len(), COMPLETIONS, "no pod was made too many");
    assert!(seen.len() <= COMPLETIONS, "and none was made and lost");
    assert!(pods.iter().all(|p| p.object.head.finalizers.is_empty()), "every pod was let go");
}

#[tokio::test]
async fn an_indexed_job_runs_every_index_and_its_orphans_are_let_go() {
    let c = Cluster::start().await;
    let controllers = c.controllers();
    c.create::<Job>(json!({"metadata": {"name": "parts"}, "spec":
        {"parallelism": 3, "completions": 5, "completionMode": "Indexed", "template": template()}}))
        .await;
    for left in (1..=5).rev() {
        c.until::<Pod>("its pods", |s| active(s) == 3.min(left)).await;
        c.end_pod("Succeeded").await;
    }
    c.until::<Job>("the job is complete", |s| has_condition(s, "parts", "Complete")).await;
    assert_eq!(c.job("parts")["status"]["completedIndexes"], "0-4");
    let hosts: BTreeSet<String> = c
        .informer::<Pod>()
        .list()
        .iter()
        .filter_map(|p| p.object.tree().ok()?.pointer("/spec/hostname")?.as_str().map(str::to_owned))
        .collect();
    assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["parts-0", "parts-1", "parts-2", "parts-3", "parts-4"]);

    // A job that goes without its pods, while nobody looks.
    c.create::<Job>(json!({"metadata": {"name": "lost"}, "spec": {"template": template()}})).await;
    c.until::<Pod>("its pod", |s| active(s) == 1).await;
    drop(controllers);
    let at = At { resource: &typed::resource::<Job>(), namespace: "default", name: "lost", subresource: "" };
    c.writer.delete(at, &DeleteOptions::default()).await.expect("delete");
    let _controllers = c.controllers();
    c.until::<Pod>("no pod waits to be counted", |s| s.iter().all(|p| p.object.head.finalizers.is_empty())).await;
}

#[tokio::test]
async fn a_cron_job_runs_by_the_moved_clock_and_once_for_each_time() {
    let c = Cluster::start().await;
    let controllers = c.controllers();
    let spec = json!({"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": template()}}});
    c.create::<CronJob>(json!({"metadata": {"name": "tick"}, "spec": spec})).await;
    c.until::<CronJob>("it is there", |s| s.len() == 1).await;
    for hours in 1..=3 {
        c.world.clock.advance(Duration::from_secs(3600));
        c.patch::<CronJob>("tick", "", json!({"metadata": {"annotations": {"look": hours.to_string()}}})).await;
        c.until::<Job>("a job of each hour", |s| s.len() == hours).await;
    }
    drop(controllers);
    // Nobody ran at four and five: of the two only the last is made up for.
    c.world.clock.advance(Duration::from_secs(2 * 3600));
    let _controllers = c.controllers();
    c.until::<Job>("the job of five o'clock", |s| s.len() == 4).await;
    let active = |s: &Store| s.iter().next().and_then(|i| i.object.tree().ok()).unwrap_or_default();
    c.until::<CronJob>("all are active", |s| active(s)["status"]["active"].as_array().map(Vec::len) == Some(4)).await;
    let last = c.informer::<CronJob>().list()[0].object.tree().expect("tree")["status"]["lastScheduleTime"].clone();
    assert_eq!(last, "2026-01-02T08:00:00Z");
    assert!(c.world.clock.now() > "2026-01-02T08:00:00Z".parse().expect("time"));
}
