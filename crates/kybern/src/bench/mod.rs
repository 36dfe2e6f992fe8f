//! `kybern bench`: load for measurements, made through the API like any client's.

mod hollow;
mod runtime;

use crate::cli::BenchCommand;
use anyhow::Result;

/// Runs a `kybern bench` command.
///
/// # Errors
/// One line with the cause and what to do.
pub fn run(command: BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Hollow(args) => hollow::run(&args),
        BenchCommand::Runtime(args) => runtime::run(&args),
    }
}
