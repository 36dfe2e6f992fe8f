//! Waiting for what a cluster makes true in its own time.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How long something may take to come true, unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until `check` gives a value, for [`PATIENCE`] at most.
///
/// # Panics
/// With the last failure when it never does.
pub fn eventually<T>(what: &str, check: impl FnMut() -> Result<T>) -> T {
    within(what, PATIENCE, check)
}

/// Asks until `check` gives a value, for `limit` at most.
///
/// # Panics
/// With the last failure when it never does.
pub fn within<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Result<T>) -> T {
    let begun = Instant::now();
    loop {
        match check() {
            Ok(v) => return v,
            Err(e) if begun.elapsed() > limit => panic!("{what}: not within {} s: {e:#}", limit.as_secs()),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Turns a condition into a result, for [`eventually`].
///
/// # Errors
/// With `text` when `condition` does not hold.
pub fn ensure(condition: bool, text: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { bail!(text()) }
}
