//! What pure code may not do by itself: read clocks, draw random numbers, make ids, look at other objects.

use crate::object::Object;
use std::time::{Duration, Instant};

/// Time, injected so that tests and skew scenarios can move it.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time, UTC.
    fn now(&self) -> jiff::Timestamp;
    /// Monotonic time.
    fn monotonic(&self) -> Instant;
}

/// The machine's clocks, shifted by a fixed offset (zero outside skew tests).
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock {
    /// Added to the wall clock.
    pub offset: jiff::SignedDuration,
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now().saturating_add(self.offset).unwrap_or(jiff::Timestamp::MAX)
    }
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until it is moved; for tests.
#[derive(Debug)]
pub struct FixedClock {
    start: Instant,
    state: std::sync::Mutex<(jiff::Timestamp, Duration)>,
}

impl FixedClock {
    /// A clock standing at `at`.
    #[expect(clippy::disallowed_methods, reason = "an arbitrary monotonic origin")]
    pub fn new(at: jiff::Timestamp) -> Self {
        Self { start: Instant::now(), state: std::sync::Mutex::new((at, Duration::ZERO)) }
    }
    /// Moves both clocks on by `by`.
    pub fn advance(&self, by: Duration) {
        let mut s = self.state.lock().unwrap_or_else(|e| e.into_inner());
        s.1 += by;
        s.0 = s.0.saturating_add(jiff::SignedDuration::try_from(by).unwrap_or_default()).unwrap_or(s.0);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> jiff::Timestamp {
        self.state.lock().unwrap_or_else(|e| e.into_inner()).0
    }
    fn monotonic(&self) -> Instant {
        self.start + self.state.lock().unwrap_or_else(|e| e.into_inner()).1
    }
}

/// Unique ids and name suffixes.
pub trait Ids: Send + Sync + 'static {
    /// A random UUID (version 4), lower case.
    fn uid(&self) -> String;
    /// Five characters of `bcdfghjklmnpqrstvwxz2456789`, as `generateName` appends.
    fn suffix(&self) -> String;
}

/// Ids from the operating system's random source.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemIds;

/// The alphabet of generated name suffixes (no vowels, no look-alikes).
pub const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Ids for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one place that makes uids")]
    fn uid(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
    #[expect(clippy::disallowed_methods, reason = "the one place that draws name suffixes")]
    fn suffix(&self) -> String {
        use rand::Rng;
        let mut rng = rand::rng();
        (0..5).map(|_| SUFFIX_ALPHABET[rng.random_range(0..SUFFIX_ALPHABET.len())] as char).collect()
    }
}

/// Other objects, as the local watch cache knows them. Synchronous: a lookup is a memory read.
///
/// `resource` and `group` name a resource (`"pods"`, `""`). An absent kind reads as empty.
/// A decision that would refuse because something is absent is repeated once after a read barrier
/// by the caller (the corridor), so implementations never block.
pub trait Lister: Send + Sync {
    /// One object; `namespace` is empty for cluster-scoped kinds.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Object>;
    /// All objects of a resource, in one namespace or (None) in all.
    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Object>;
    /// Revision of the last change to this resource; lets derived indexes know when to rebuild.
    fn changed_at(&self, group: &str, resource: &str) -> u64;
}
