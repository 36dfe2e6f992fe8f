//! What is counted: requests and how long they took, by route. Routes are a closed set; what no route takes is
//! counted without one.

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// A path of a host of an Ingress, all empty for what nobody serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Route {
    /// `namespace/name` of the Ingress.
    pub ingress: Arc<str>,
    /// As the rule has it; empty in a default backend.
    pub host: Arc<str>,
    /// As the rule has it; empty in a default backend.
    pub path: Arc<str>,
    /// The Service.
    pub service: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    ingress: Arc<str>,
    host: Arc<str>,
    path: Arc<str>,
    service: Arc<str>,
    code: u16,
}

impl Answered {
    fn of(route: &Route, code: u16) -> Self {
        let Route { ingress, host, path, service } = route.clone();
        Self { ingress, host, path, service, code }
    }
}

/// Seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// The proxy's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Route, Histogram, fn() -> Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<Answered, Counter>::default();
        let durations = Family::<Route, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        registry.register("kybern_ingress_requests", "Requests answered, by route and status", requests.clone());
        registry.register(
            "kybern_ingress_request_duration_seconds",
            "Time from a request's head to its answer's head",
            durations.clone(),
        );
        Self { registry, requests, durations }
    }
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn observe(&self, route: &Route, code: u16, took: Duration) {
        self.durations.get_or_create(route).observe(took.as_secs_f64());
        self.requests.get_or_create(&Answered::of(route, code)).inc();
    }

    /// Forgets routes that are gone.
    pub(crate) fn forget<'a>(&self, old: impl Iterator<Item = &'a Route>, new: &HashSet<&Route>) {
        for route in old.filter(|route| !new.contains(*route)) {
            self.durations.remove(route);
            for code in 100..600 {
                self.requests.remove(&Answered::of(route, code));
            }
        }
    }

    /// The text a scraper reads.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_counted_and_forgotten() {
        let metrics = Metrics::default();
        let route =
            |path: &str| Route { ingress: "n/a".into(), host: "h".into(), path: path.into(), service: "s".into() };
        let (old, new) = (route("/old"), route("/new"));
        for (route, code) in [(&old, 200), (&old, 404), (&new, 200), (&Route::default(), 404)] {
            metrics.observe(route, code, Duration::from_millis(3));
        }
        let text = metrics.text().unwrap();
        let line =
            "kybern_ingress_requests_total{ingress=\"n/a\",host=\"h\",path=\"/old\",service=\"s\",code=\"200\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("_bucket{le=\"0.005\",ingress=\"n/a\",host=\"h\",path=\"/new\",service=\"s\"} 1"),
            "{text}"
        );
        metrics.forget([&old, &new].into_iter(), &HashSet::from([&new]));
        let text = metrics.text().unwrap();
        assert!(!text.contains("/old") && text.contains("/new") && text.contains("ingress=\"\""), "{text}");
    }
}
