//! The clock that a server's API and controllers go by.
//!
//! Tests of what takes hours (cron jobs, time limits, expiry) move it: a build with debug assertions or
//! the feature `moved-clock` adds the offset in [`VARIABLE`]. Other builds do not look at it. The
//! machine's clock stays as it is, and so do the times of the certificates that others check.

use anyhow::{Context, Result};
use kybern_api::seam::SystemClock;

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
            tracing::warn!(%offset, "this server's clock is moved");
            Ok(SystemClock { offset })
        }
        _ => Ok(SystemClock::default()),
    }
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
