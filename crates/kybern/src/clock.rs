//! The clock that a server's API and controllers, and an agent, go by.
//!
//! Tests of what takes hours (cron jobs, time limits, expiry) or a year (certificates) move it: a build with
//! debug assertions or the feature `moved-clock` adds the offset in [`VARIABLE`]. Other builds do not look at
//! it. The machine's clock stays as it is, and so do the times of the servers' own certificates, which
//! programs with that clock check.

use anyhow::{Context, Result};
use jiff::Timestamp;
use kybern_api::seam::{Clock, SystemClock};

/// A duration such as `2h30m` or `-45s`.
pub const VARIABLE: &str = "KYBERN_CLOCK_OFFSET";

/// The clock, moved where this build may be moved.
///
/// # Errors
/// When the offset is no duration.
pub fn of_cluster() -> Result<SystemClock> {
    let moves = cfg!(any(debug_assertions, feature = "moved-clock"));
    match std::env::var(VARIABLE) {
        Ok(text) if moves => {
            let offset = read(&text)?;
            tracing::warn!(%offset, "the clock is moved");
            Ok(SystemClock { offset })
        }
        _ => Ok(SystemClock::default()),
    }
}

/// The time at which a cluster's CAs are made: early enough for both clocks.
pub fn founding(machine: SystemClock, moved: SystemClock) -> Timestamp {
    machine.now().min(moved.now())
}

fn read(text: &str) -> Result<jiff::SignedDuration> {
    text.parse().with_context(|| format!("{VARIABLE}={text} is no duration; 2h30m and -45s are"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_go_both_ways() {
        assert_eq!(read("2h30m").unwrap().as_secs(), 9000);
        assert_eq!(read("-45s").unwrap().as_secs(), -45);
        assert!(read("soon").unwrap_err().to_string().contains("is no duration"));
    }
}
