//! Request counts and durations, under the names Kubernetes gives them.

use crate::present::body::Body;
use crate::present::respond;
use crate::request::info::RequestInfo;
use crate::server::ApiServer;
use http::{Response, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// What a request is counted under: closed sets only, or names of served resources.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Labels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

impl Labels {
    /// Of a parsed request line.
    pub fn of(info: &RequestInfo) -> Self {
        let a = &info.attributes;
        let scope = match (a.name.is_empty(), a.namespace.is_empty()) {
            _ if !a.is_resource() => "",
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        Self {
            verb: info.verb.metric(),
            group: a.group.clone(),
            version: a.version.clone(),
            resource: a.resource.clone(),
            subresource: a.subresource.clone(),
            scope,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Coded {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    code: u16,
}

/// Seconds; Kubernetes' own bounds, thinned out.
const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// The server's metrics.
pub struct Metrics {
    registry: Registry,
    requests: Family<Coded, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    inflight: Gauge,
    levels: Levels,
}

/// A priority level.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabel {
    priority_level: String,
}

/// The state of the priority levels, as of the last scrape.
#[derive(Debug, Default)]
struct Levels {
    nominal: Family<LevelLabel, Gauge>,
    executing: Family<LevelLabel, Gauge>,
    waiting: Family<LevelLabel, Gauge>,
}

impl Levels {
    fn registered(registry: &mut Registry) -> Self {
        let it = Self::default();
        let mut add = |name: &str, help: &str, family: &Family<LevelLabel, Gauge>| {
            registry.register(format!("apiserver_flowcontrol_{name}"), help, family.clone());
        };
        add("nominal_limit_seats", "Seats that are a priority level's own.", &it.nominal);
        add("current_executing_requests", "Requests of a priority level that run.", &it.executing);
        add("current_inqueue_requests", "Requests of a priority level that wait.", &it.waiting);
        it
    }
    fn set(&self, server: &ApiServer) {
        for (priority_level, nominal, executing, waiting) in server.0.fairness.counts() {
            let label = LevelLabel { priority_level };
            for (family, count) in [(&self.nominal, nominal), (&self.executing, executing), (&self.waiting, waiting)] {
                family.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("inflight", &self.inflight.get()).finish_non_exhaustive()
    }
}

/// Counts a request as under way while it lives.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// All at zero, beside what the parts below have registered.
    pub fn new(mut registry: Registry) -> Self {
        let requests = Family::<Coded, Counter>::default();
        let durations = Family::<Labels, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        let inflight = Gauge::default();
        registry.register("apiserver_request", "Requests served, by what and how they ended.", requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "Time from request line to response head.",
            durations.clone(),
        );
        registry.register("apiserver_current_inflight_requests", "Requests under way.", inflight.clone());
        let levels = Levels::registered(&mut registry);
        Self { registry, requests, durations, inflight, levels }
    }

    /// A request has begun.
    pub fn begin(&self) -> InFlight {
        self.inflight.inc();
        InFlight(self.inflight.clone())
    }

    /// A request has been answered.
    pub fn observe(&self, l: Labels, code: u16, took: Duration) {
        self.durations.get_or_create(&l).observe(took.as_secs_f64());
        let Labels { verb, group, version, resource, subresource, scope } = l;
        self.requests.get_or_create(&Coded { verb, group, version, resource, subresource, scope, code }).inc();
    }

    /// The text a scraper reads.
    pub(crate) fn render(&self, server: &ApiServer) -> Response<Body> {
        self.levels.set(server);
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            return respond::text(StatusCode::INTERNAL_SERVER_ERROR, "cannot render metrics");
        }
        respond::response(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Body::full(text),
        )
    }
}
