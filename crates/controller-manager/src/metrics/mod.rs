//! Where autoscaling gets its figures from.
//!
//! Answers come from memory: a plan waits for nothing. [`MetricsApi`] brings them there; without it,
//! [`NoMetrics`] says so in Kubernetes' words.

mod api;

pub use api::MetricsApi;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kybern_api::meta::selector::Selector;
use smol_str::SmolStr;
use std::time::Duration;

/// What one pod used.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of the pod.
    pub pod: SmolStr,
    /// Thousandths of the metric's unit.
    pub value: i64,
    /// When it was measured.
    pub at: Timestamp,
    /// Over how long.
    pub window: Duration,
}

/// A metric that is not of a resource: its name and what its series must carry.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Name.
    pub name: &'a str,
    /// Labels of the metric's series; None: all.
    pub selector: Option<&'a LabelSelector>,
}

/// Current figures.
pub trait Metrics: Send + Sync + 'static {
    /// Are the figures of this namespace's pods at hand? If not, they are being brought: ask again soon.
    fn prepare(&self, _namespace: &str) -> bool {
        true
    }
    /// What the selected pods of a namespace (or one container of each) use of a resource.
    ///
    /// # Errors
    /// Why there are no figures.
    fn resource(
        &self,
        namespace: &str,
        pods: &Selector,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Vec<Sample>, String>;
    /// A metric of the selected pods.
    ///
    /// # Errors
    /// Why there are no figures.
    fn pods(&self, namespace: &str, pods: &Selector, metric: Named<'_>) -> Result<Vec<Sample>, String>;
    /// A metric of one object, in thousandths.
    ///
    /// # Errors
    /// Why there is no figure.
    fn object(&self, namespace: &str, object: &CrossVersionObjectReference, metric: Named<'_>) -> Result<i64, String>;
    /// The series of a metric from outside the cluster, in thousandths.
    ///
    /// # Errors
    /// Why there are no figures.
    fn external(&self, namespace: &str, metric: Named<'_>) -> Result<Vec<i64>, String>;
}

/// A cluster that measures nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMetrics;

impl Metrics for NoMetrics {
    fn resource(&self, _: &str, _: &Selector, _: &str, _: Option<&str>) -> Result<Vec<Sample>, String> {
        Err("unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)".into())
    }
    fn pods(&self, _: &str, _: &Selector, _: Named<'_>) -> Result<Vec<Sample>, String> {
        Err("unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
            .into())
    }
    fn object(&self, _: &str, _: &CrossVersionObjectReference, _: Named<'_>) -> Result<i64, String> {
        Err("unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
            .into())
    }
    fn external(&self, _: &str, _: Named<'_>) -> Result<Vec<i64>, String> {
        Err("unable to fetch metrics from external metrics API: no external metrics API (external.metrics.k8s.io) registered".into())
    }
}
