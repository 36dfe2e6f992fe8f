//! EventRateLimit: events beyond a rate are refused with 429, so that a component that says the same thing over
//! and over does not fill the store. Off unless it is switched on with its limits.

use crate::paths::text;
use crate::plugin::{Env, Operation, Plugin, Request};
use jiff::Timestamp;
use kybern_api::error::{Reason, Status};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// Buckets of one limit unless told otherwise.
const CACHE_SIZE: usize = 4096;
const VERSION: &str = "eventratelimit.admission.k8s.io/v1alpha1";

/// What has a bucket of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Kind {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventLimit {
    r#type: Kind,
    qps: u32,
    burst: u32,
    #[serde(default)]
    cache_size: usize,
}

/// The limits of a `Configuration` of the plugin.
///
/// # Errors
/// Where it is wrong.
pub fn event_limits(configuration: &Value) -> Result<Vec<EventLimit>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Configuration {
        api_version: String,
        kind: String,
        limits: Vec<EventLimit>,
    }
    let found = Configuration::deserialize(configuration).map_err(|e| e.to_string())?;
    if found.api_version != VERSION || found.kind != "Configuration" {
        return Err(format!("must be Configuration of {VERSION}"));
    }
    if found.limits.is_empty() {
        return Err("limits: at least one is required".into());
    }
    for (i, limit) in found.limits.iter().enumerate() {
        if limit.qps == 0 || limit.burst == 0 {
            return Err(format!("limits[{i}]: qps and burst must be greater than 0"));
        }
    }
    Ok(found.limits)
}

/// So many events left, at a time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Timestamp,
}

#[derive(Debug)]
struct Limiter {
    limit: EventLimit,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Limiter {
    /// What is in a bucket now.
    fn now(&self, bucket: Bucket, now: Timestamp) -> Bucket {
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        let left = (bucket.left + passed * f64::from(self.limit.qps)).min(f64::from(self.limit.burst));
        Bucket { left, at: now.max(bucket.at) }
    }

    fn takes(&self, key: &str, now: Timestamp) -> bool {
        let full = f64::from(self.limit.burst);
        let most = if self.limit.cache_size == 0 { CACHE_SIZE } else { self.limit.cache_size };
        let mut buckets = self.buckets.lock();
        if buckets.len() >= most && !buckets.contains_key(key) {
            // A full bucket is as good as none.
            buckets.retain(|_, b| self.now(*b, now).left < full);
            if buckets.len() >= most
                && let Some(oldest) = buckets.iter().min_by_key(|(_, b)| b.at).map(|(k, _)| k.clone())
            {
                buckets.remove(&oldest);
            }
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { left: full, at: now });
        *bucket = self.now(*bucket, now);
        let takes = bucket.left >= 1.0;
        if takes {
            bucket.left -= 1.0;
        }
        takes
    }

    fn key(&self, req: &Request<'_>, event: &Value) -> String {
        match self.limit.r#type {
            Kind::Server => String::new(),
            Kind::Namespace => req.namespace.to_owned(),
            Kind::User => req.user.name.clone(),
            Kind::SourceAndObject => {
                // the fields of both versions of Event, of which each has its own
                let parts = [
                    "/source/component",
                    "/source/host",
                    "/reportingComponent",
                    "/reportingInstance",
                    "/involvedObject/kind",
                    "/involvedObject/namespace",
                    "/involvedObject/name",
                    "/involvedObject/uid",
                    "/involvedObject/apiVersion",
                ];
                parts.map(|part| text(event, part)).join("/")
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct EventRateLimit(Vec<Limiter>);

impl EventRateLimit {
    pub(crate) fn new(limits: &[EventLimit]) -> Self {
        Self(limits.iter().map(|limit| Limiter { limit: limit.clone(), buckets: Mutex::default() }).collect())
    }
}

impl Plugin for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        let counted = matches!(req.operation, Operation::Create | Operation::Update) && req.subresource.is_empty();
        let Some(event) = obj.filter(|_| counted && !req.dry_run && req.def.kind == "Event") else { return Ok(()) };
        // Every limit counts every event, whatever the others say of it.
        let reached: Vec<String> = self
            .0
            .iter()
            .filter_map(|limiter| {
                let key = limiter.key(req, event);
                let says = || format!("limit reached on type {:?} for key {key}", limiter.limit.r#type);
                (!limiter.takes(&key, env.now)).then(says)
            })
            .collect();
        match reached.as_slice() {
            [] => Ok(()),
            [one] => Err(Status::new(Reason::TooManyRequests, one.clone())),
            all => Err(Status::new(Reason::TooManyRequests, format!("[{}]", all.join(", ")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).expect("a time")
    }

    fn limiter(qps: u32, burst: u32, cache_size: usize) -> Limiter {
        Limiter { limit: EventLimit { r#type: Kind::User, qps, burst, cache_size }, buckets: Mutex::default() }
    }

    #[test]
    fn a_burst_passes_and_then_a_rate() {
        let l = limiter(2, 3, 0);
        let taken = |t: i64| (0..10).filter(|_| l.takes("a", at(t))).count();
        assert_eq!([taken(0), taken(400), taken(700), taken(1600), taken(100_000)], [3, 0, 1, 2, 3]);
        assert_eq!(taken(50_000), 0, "a clock that goes back gives nothing");
        assert!(l.takes("b", at(0)), "another key has its own bucket");
    }

    #[test]
    fn many_keys_take_bounded_memory_and_the_busiest_stay_limited() {
        let l = limiter(1, 1, 3);
        assert!(l.takes("busy", at(0)));
        for i in 0..100 {
            l.takes(&format!("k{i}"), at(2000 + i));
            assert!(l.buckets.lock().len() <= 3);
        }
        assert!(l.takes("k", at(2200)) && !l.takes("k", at(2201)));
    }

    #[test]
    fn limits_are_read_and_mistakes_named() {
        let with =
            |limits: Value| event_limits(&json!({"apiVersion": VERSION, "kind": "Configuration", "limits": limits}));
        let good = json!([{"type": "Server", "qps": 1, "burst": 2}, {"type": "Namespace", "qps": 1, "burst": 2, "cacheSize": 9}]);
        assert_eq!(with(good).map(|l| l.len()), Ok(2));
        for wrong in [
            json!([]),
            json!([{"type": "Server", "qps": 0, "burst": 1}]),
            json!([{"type": "Server", "qps": 1, "burst": 0}]),
            json!([{"type": "Other", "qps": 1, "burst": 1}]),
            json!([{"type": "Server", "qps": -1, "burst": 1}]),
            json!([{"type": "Server", "qps": 1, "burst": 1, "more": 1}]),
        ] {
            assert!(with(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(event_limits(&json!({"apiVersion": "v1", "kind": "Configuration", "limits": []})).is_err());
    }
}
