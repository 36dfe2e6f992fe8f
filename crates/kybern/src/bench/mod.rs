//! `kybern bench`: load for measurements, made through the API like any client's.

mod hollow;

use crate::cli::BenchCommand;
use anyhow::Result;

/// Runs a `kybern bench` command.
///
/// # Errors
/// One line with the cause and what to do.
pub fn run(command: BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Hollow(args) => hollow::run(&args),
    }
}
