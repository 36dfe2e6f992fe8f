//! Time that never jumps: wall-clock time at the start plus what has passed since.

use jiff::{SignedDuration, Timestamp};
use kybern_api::seam::Clock;
use std::sync::Arc;
use std::time::Instant;

/// Measures how long ago something was observed, immune to steps of the wall clock (which must not
/// make every node look dead at once).
#[derive(Clone)]
pub struct Steady {
    clock: Arc<dyn Clock>,
    start: (Timestamp, Instant),
}

impl Steady {
    /// Starts at the clock's present time.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let start = (clock.now(), clock.monotonic());
        Self { clock, start }
    }
    /// The steady time.
    pub fn now(&self) -> Timestamp {
        let passed = self.clock.monotonic().saturating_duration_since(self.start.1);
        self.start
            .0
            .saturating_add(SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX))
            .unwrap_or(Timestamp::MAX)
    }
}
