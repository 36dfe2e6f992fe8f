//! Plans stepped one write at a time over an API server in miniature, in an order that dice decide.
//!
//! What real clusters do at once happens here one thing after the other: a controller looks and
//! carries out its plan, or a pod gets on with its life. After every single write the world is
//! checked. A seed decides everything, so a failure can be looked at again.

use jiff::Timestamp;
use kybern_api::seam::{FixedClock, SystemIds};
use kybern_client::memory::MemoryApi;
use kybern_client::store::{Item, Store};
use kybern_client::transport::{MERGE_PATCH, Transport};
use kybern_client::write::{At, Writer};
use kybern_client::{typed, wire};
use kybern_controller_manager::{definitions, informer_rows};
use kybern_reconcile::act::{Executor, Failure};
use kybern_reconcile::def::{ControllerDef, Key};
use kybern_reconcile::events::Recorder;
use kybern_reconcile::plan::{Plan, Step};
use kybern_reconcile::steady::Steady;
use kybern_reconcile::view::{Source, View, World};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use k8s_openapi::api::core::v1::Pod;

/// Holds a deleted pod back until its "node" has ended it.
pub const GRACE: &str = "sim.kybern.io/grace";
/// Pods of this image never become ready.
pub const BROKEN: &str = "broken";

/// Numbers that follow from a seed (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits") % n
    }
}

/// What must hold after every write.
pub type Check<'c> = &'c dyn Fn(&MemoryApi);

pub struct Sim {
    pub api: MemoryApi,
    pub dice: Dice,
    pub now: Timestamp,
    defs: Vec<ControllerDef>,
    executor: Executor,
    writer: Writer,
    steady: Steady,
}

impl Sim {
    /// With these controllers only.
    pub fn new(seed: u64, controllers: &[&str]) -> Self {
        let api = MemoryApi::default();
        let transport: Arc<dyn Transport> = Arc::new(api.clone());
        let now = "2030-01-01T00:00:00Z".parse().expect("a time");
        let clock = Arc::new(FixedClock::new(now));
        let writer = Writer::new(transport, "sim", 0);
        // Nobody reads events here.
        let silent = CancellationToken::new();
        silent.cancel();
        let recorder = Recorder::start(writer.clone(), "sim", clock.clone(), Arc::new(SystemIds), silent);
        Self {
            executor: Executor::new(writer.clone(), recorder, Arc::new(SystemIds)),
            defs: definitions().into_iter().filter(|d| controllers.contains(&d.name)).collect(),
            dice: Dice::new(seed),
            steady: Steady::new(clock),
            api,
            now,
            writer,
        }
    }

    pub async fn create<K: k8s_openapi::Resource>(&self, object: Value) {
        let resource = typed::resource::<K>();
        let namespace = if object["metadata"]["namespace"].is_null() { "" } else { "shop" };
        self.writer
            .create(At { resource: &resource, namespace, name: "", subresource: "" }, &object)
            .await
            .expect("create");
    }

    pub async fn patch<K: k8s_openapi::Resource>(&self, name: &str, patch: Value) {
        let resource = typed::resource::<K>();
        let at = At { resource: &resource, namespace: "shop", name, subresource: "" };
        self.writer.patch(at, MERGE_PATCH, &patch).await.expect("patch");
    }

    pub fn pods(&self) -> Vec<Value> {
        self.api.trees(&typed::resource::<Pod>())
    }

    /// So many things happen, in an order that the dice decide.
    pub async fn happen(&mut self, steps: usize, check: Check<'_>) {
        for _ in 0..steps {
            if self.dice.below(2) == 0 {
                let at = self.dice.below(self.defs.len());
                self.control(at, check).await;
            } else {
                let pods = self.pods();
                if !pods.is_empty() {
                    let pod = pods[self.dice.below(pods.len())].clone();
                    self.live(&pod).await;
                    check(&self.api);
                }
            }
        }
    }

    /// Everything happens until nothing is left to happen.
    pub async fn settle(&mut self, check: Check<'_>) {
        for _ in 0..400 {
            let before = self.api.writes();
            self.happen(20, check).await;
            for at in 0..self.defs.len() {
                self.control(at, check).await;
            }
            for pod in self.pods() {
                self.live(&pod).await;
                check(&self.api);
            }
            if self.api.writes() == before {
                return;
            }
        }
        panic!("this does not come to rest: {:#?}", self.pods());
    }

    /// One controller looks at all its objects and acts.
    async fn control(&mut self, at: usize, check: Check<'_>) {
        let def = self.defs[at].clone();
        for key in self.keys(&def) {
            let view = View::new(self.sources(&def));
            let world = World { view: &view, now: self.now, steady: self.steady.now(), failure: None };
            let plan = (def.plan)(&world, &key).expect("a plan");
            drop(view);
            self.carry_out(plan, check).await;
        }
    }

    async fn carry_out(&self, plan: Plan, check: Check<'_>) {
        for step in plan.steps {
            let single = match step {
                Step::Batch(actions) => actions.into_iter().map(Step::Do).collect(),
                other => vec![other],
            };
            for step in single {
                let outcome = self.executor.carry_out(&Plan { steps: vec![step], requeue: None }).await;
                check(&self.api);
                match outcome.failure {
                    None => {}
                    // A plan's own status write has moved its object on; the next plan sees that.
                    Some(Failure::Stale(_)) => return,
                    Some(Failure::Refused(status)) => panic!("refused: {status}"),
                }
            }
        }
    }

    fn keys(&self, def: &ControllerDef) -> Vec<Key> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let objects = self.api.trees(&def.watches[0].resource);
        objects.iter().map(|o| Key::new(text(&o["metadata"]["namespace"]), text(&o["metadata"]["name"]))).collect()
    }

    fn sources(&self, def: &ControllerDef) -> Arc<[Source]> {
        let rows = informer_rows(&self.steady);
        let source = |resource: &kybern_client::transport::Resource| {
            let row = rows.get(resource);
            let item = |tree: Value| {
                let object = wire::object(tree.to_string().as_bytes()).expect("an object");
                let row = row.map(|make| make(&object));
                Item { object, row }
            };
            let store: Store = self.api.trees(resource).into_iter().map(item).collect();
            Source::Fixed(resource.clone(), store)
        };
        def.watches.iter().map(|w| source(&w.resource)).collect()
    }

    /// A pod gets on with its life: bound and started, ready, or ended when it is deleted.
    async fn live(&self, pod: &Value) {
        let (resource, name) = (typed::resource::<Pod>(), pod["metadata"]["name"].as_str().expect("a name"));
        let (subresource, patch) = if !pod["metadata"]["deletionTimestamp"].is_null() {
            ("", json!({"metadata": {"finalizers": null}}))
        } else if pod["spec"]["nodeName"].is_null() {
            let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
            ("", json!({"spec": {"nodeName": pod.pointer(terms).cloned().unwrap_or(json!("n1"))}}))
        } else if pod["status"]["phase"] != "Running" {
            ("status", json!({"status": {"phase": "Running"}}))
        } else if pod["status"]["conditions"].is_null() && pod["spec"]["containers"][0]["image"] != BROKEN {
            let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2029-12-31T00:00:00Z"});
            ("status", json!({"status": {"conditions": [ready]}}))
        } else {
            return;
        };
        let at = At { resource: &resource, namespace: "shop", name, subresource };
        self.writer.patch(at, MERGE_PATCH, &patch).await.expect("a pod lives");
    }
}

/// Is a pod there to stay?
pub fn stays(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
}

/// Is a pod of use now?
pub fn is_available(pod: &Value) -> bool {
    stays(pod) && !pod["status"]["conditions"].is_null()
}

pub fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

/// A template whose pods take their time to end.
pub fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}, "finalizers": [GRACE]}, "spec": {"containers": [{"name": "c", "image": image}]}})
}
