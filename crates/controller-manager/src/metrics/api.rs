//! The figures of the metrics API (`metrics.k8s.io`), asked for when a plan needs them.
//!
//! Nothing is measured while nothing is scaled by it: a plan that finds no fresh figures has them
//! brought and is made again a moment later.

use super::{Metrics, Named, NoMetrics, Sample};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use kybern_api::meta::quantity::Quantity;
use kybern_api::meta::selector::Selector;
use kybern_api::meta::time;
use kybern_api::object::Head;
use kybern_api::seam::Clock;
use kybern_client::transport::{List, Resource, Selection, Transport};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Figures serve for so long: less than the time between two decisions, so that each has its own.
const FRESH: Duration = Duration::from_secs(10);
/// What the metrics API measures over; its answers say so, too.
const WINDOW: Duration = Duration::from_secs(10);

/// What one pod used, and the labels it is selected by.
struct PodMetrics {
    head: Arc<Head>,
    at: Timestamp,
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, Value>,
}

impl Container {
    fn milli(&self, resource: &str) -> Option<i64> {
        self.usage.get(resource).and_then(|v| Quantity::from_value(v).ok()).map(Quantity::milli)
    }
}

/// What is known of a namespace.
#[derive(Default)]
struct Known {
    /// The last answer and when it came.
    answer: Option<(Timestamp, Result<Vec<PodMetrics>, String>)>,
    underway: bool,
}

/// Figures from the metrics API.
pub struct MetricsApi {
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    namespaces: Arc<Mutex<HashMap<String, Known>>>,
}

impl MetricsApi {
    /// Asks over `transport`, whose identity may list `pods.metrics.k8s.io`.
    pub fn new(transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        Self { transport, clock, namespaces: Arc::default() }
    }

    /// Has the namespace's figures brought by a task of its own.
    fn fetch(&self, namespace: &str) {
        let (transport, clock, namespaces) = (self.transport.clone(), self.clock.clone(), self.namespaces.clone());
        let namespace = namespace.to_owned();
        tokio::spawn(async move {
            let resource = Resource::new("metrics.k8s.io", "v1beta1", "pods");
            let selection = Selection { namespace: namespace.clone(), ..Selection::default() };
            let answer = transport.list(&resource, &selection).await;
            let pods = answer
                .map_err(|status| format!("unable to fetch metrics from resource metrics API: {}", status.message))
                .and_then(|list| read(&list));
            namespaces.lock().insert(namespace, Known { answer: Some((clock.now(), pods)), underway: false });
        });
    }
}

fn read(list: &List) -> Result<Vec<PodMetrics>, String> {
    #[derive(Deserialize)]
    struct View {
        timestamp: String,
        #[serde(default)]
        containers: Vec<Container>,
    }
    let pod = |object: &kybern_api::object::Object| {
        let view: View = object.view().map_err(|e| e.to_string())?;
        let at = time::parse(&view.timestamp).ok_or_else(|| format!("no time: {}", view.timestamp))?;
        Ok(PodMetrics { head: object.head.clone(), at, containers: view.containers })
    };
    let pods: Result<_, String> = list.items.iter().map(pod).collect();
    pods.map_err(|e| format!("unable to read the metrics API's answer: {e}"))
}

/// A pod's use of a resource, or one container's; None: a container has no figure.
fn used(pod: &PodMetrics, resource: &str, container: Option<&str>) -> Result<Option<i64>, String> {
    let Some(name) = container else {
        return Ok(pod.containers.iter().map(|c| c.milli(resource)).sum());
    };
    let found = pod.containers.iter().find(|c| c.name == name).ok_or_else(|| {
        format!("container {name} not present in metrics for pod {}/{}", pod.head.namespace, pod.head.name)
    })?;
    Ok(found.milli(resource))
}

impl Metrics for MetricsApi {
    fn prepare(&self, namespace: &str) -> bool {
        let now = self.clock.now();
        let mut namespaces = self.namespaces.lock();
        let fresh = |k: &Known| {
            k.answer
                .as_ref()
                .is_some_and(|(at, _)| Duration::try_from(now.duration_since(*at)).is_ok_and(|d| d < FRESH))
        };
        namespaces.retain(|name, k| name == namespace || k.underway || fresh(k));
        let known = namespaces.entry(namespace.to_owned()).or_default();
        if fresh(known) {
            return true;
        }
        if !std::mem::replace(&mut known.underway, true) {
            self.fetch(namespace);
        }
        false
    }

    fn resource(
        &self,
        namespace: &str,
        pods: &Selector,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Vec<Sample>, String> {
        let namespaces = self.namespaces.lock();
        let answer = namespaces.get(namespace).and_then(|k| k.answer.as_ref());
        let all = answer.map_or(Ok([].as_slice()), |(_, pods)| pods.as_deref()).map_err(String::clone)?;
        let mut samples = Vec::new();
        for pod in all.iter().filter(|p| pods.matches(&*p.head)) {
            if let Some(value) = used(pod, resource, container)? {
                samples.push(Sample { pod: pod.head.name.clone(), value, at: pod.at, window: WINDOW });
            }
        }
        if samples.is_empty() {
            return Err("no metrics returned from resource metrics API".into());
        }
        Ok(samples)
    }
    fn pods(&self, namespace: &str, pods: &Selector, metric: Named<'_>) -> Result<Vec<Sample>, String> {
        NoMetrics.pods(namespace, pods, metric)
    }
    fn object(&self, namespace: &str, object: &CrossVersionObjectReference, metric: Named<'_>) -> Result<i64, String> {
        NoMetrics.object(namespace, object, metric)
    }
    fn external(&self, namespace: &str, metric: Named<'_>) -> Result<Vec<i64>, String> {
        NoMetrics.external(namespace, metric)
    }
}
