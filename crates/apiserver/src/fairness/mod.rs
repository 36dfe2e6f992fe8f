//! API Priority and Fairness (KEP-1040): which requests run, wait or are refused when there are more than
//! this server can serve at once.
//!
//! FlowSchemas and PriorityLevelConfigurations are read from this server's cache and count as soon as they
//! are there. Must never know: what a request does.

mod defaults;
mod level;
mod schema;
mod seats;

pub use defaults::objects as default_objects;
pub(crate) use seats::Seat;

use crate::config::Config;
use http::{HeaderMap, HeaderName, HeaderValue};
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::error::Status;
use kybern_api::seam::Lister;
use level::Level;
use parking_lot::Mutex;
use schema::Schema;
use seats::{Answer, Seats};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
/// How long a request waits for a seat at most; its own deadline may be nearer.
const PATIENCE: Duration = Duration::from_secs(15);
static SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
static LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// The rules as they were at a revision.
#[derive(Debug, Default)]
struct Rules {
    /// When either kind changed last.
    changed: (u64, u64),
    /// In the order in which they are tried.
    schemas: Vec<Schema>,
    levels: Vec<Level>,
}

impl Rules {
    fn read(lister: &dyn Lister, changed: (u64, u64), capacity: usize) -> Self {
        let mut configurations: Vec<PriorityLevelConfiguration> = all(lister, LEVELS);
        let mut schemas: Vec<FlowSchema> = all(lister, SCHEMAS);
        // Before the defaults are stored, and should the mandatory ones be deleted, they hold all the same.
        let none = configurations.is_empty() || schemas.is_empty();
        let (own_levels, own_schemas) = defaults::built_in();
        let missing = |name: &Option<String>| none || defaults::is_mandatory(name.as_deref().unwrap_or_default());
        for level in own_levels.into_iter().filter(|l| missing(&l.metadata.name)) {
            if !configurations.iter().any(|c| c.metadata.name == level.metadata.name) {
                configurations.push(level);
            }
        }
        for schema in own_schemas.into_iter().filter(|s| missing(&s.metadata.name)) {
            if !schemas.iter().any(|s| s.metadata.name == schema.metadata.name) {
                schemas.push(schema);
            }
        }
        let levels = level::levels(configurations, capacity);
        let mut schemas: Vec<Schema> = schemas.into_iter().filter_map(Schema::of).collect();
        // A schema whose level does not exist counts for nothing.
        schemas.retain(|s| levels.iter().any(|l| l.name == s.level));
        schemas.sort_by(|a, b| a.place.cmp(&b.place));
        Self { changed, schemas, levels }
    }

    fn find(&self, user: &UserInfo, request: &Attributes) -> Option<(&Schema, &Level)> {
        let schema = self.schemas.iter().find(|s| s.matches(user, request))?;
        Some((schema, self.levels.iter().find(|l| l.name == schema.level)?))
    }
}

/// All objects of a kind; one that cannot be read is left out, and said.
fn all<T: DeserializeOwned>(lister: &dyn Lister, resource: &str) -> Vec<T> {
    let read = |object: kybern_api::object::Object| match object.view() {
        Ok(it) => Some(it),
        Err(error) => {
            tracing::warn!(resource, name = %object.head.name, %error, "left out: it cannot be read");
            None
        }
    };
    lister.list(GROUP, resource, None).into_iter().filter_map(read).collect()
}

/// Where a request was put; told to the client in its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flow {
    schema: String,
    level: String,
}

impl Flow {
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        for (name, uid) in [(&SCHEMA_UID, &self.schema), (&LEVEL_UID, &self.level)] {
            // Built-in ones have none before they are stored.
            if let Some(uid) = HeaderValue::from_str(uid).ok().filter(|u| !u.is_empty()) {
                headers.insert(name, uid);
            }
        }
    }
}

/// Judges requests.
#[derive(Debug)]
pub(crate) struct Fairness {
    capacity: usize,
    rules: Mutex<Arc<Rules>>,
    seats: Arc<Seats>,
}

impl Fairness {
    pub(crate) fn new(config: &Config) -> Self {
        let capacity = config.max_requests;
        Self { capacity, rules: Mutex::default(), seats: Seats::new(capacity) }
    }

    /// The rules as of now.
    fn rules(&self, lister: &dyn Lister) -> Arc<Rules> {
        let changed = (lister.changed_at(GROUP, SCHEMAS), lister.changed_at(GROUP, LEVELS));
        let mut rules = self.rules.lock();
        if rules.changed != changed || rules.levels.is_empty() {
            *rules = Arc::new(Rules::read(lister, changed, self.capacity));
            self.seats.set(&rules.levels);
        }
        rules.clone()
    }

    /// Takes a seat for a request, or waits for one; None: it needs none. `flow` says where it was put,
    /// also when it is refused.
    ///
    /// # Errors
    /// 429, when it would have to wait too long.
    pub(crate) async fn admit(
        &self,
        lister: &dyn Lister,
        user: &UserInfo,
        request: &Attributes,
        flow: &mut Flow,
    ) -> Result<Option<Seat>, Status> {
        let rules = self.rules(lister);
        // The mandatory schema takes what no other does, so there is always one.
        let Some((schema, level)) = rules.find(user, request) else { return Ok(None) };
        *flow = Flow { schema: schema.uid.clone(), level: level.uid.clone() };
        if level.exempt {
            return Ok(None);
        }
        let refused = |why: &str| {
            tracing::debug!(schema = schema.place.name, level = level.name, why, "request refused");
            Status::too_many_requests("Too many requests, please try again later.", 1)
        };
        match self.seats.ask(&level.name, (&schema.place.name, schema.flow(user, request))) {
            Answer::Run(seat) => Ok(Some(seat)),
            Answer::Refuse(why) => Err(refused(why)),
            Answer::Wait(seat) => match tokio::time::timeout(PATIENCE, seat).await {
                Ok(Ok(seat)) => Ok(Some(seat)),
                _ => Err(refused("time-out")),
            },
        }
    }

    /// Levels with their seats, and the requests that run and wait.
    pub(crate) fn counts(&self) -> Vec<(String, usize, usize, usize)> {
        self.seats.counts()
    }
}
