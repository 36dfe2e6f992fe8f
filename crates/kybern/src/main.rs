//! `kybern`: a Kubernetes-compatible cluster in one binary.

mod allocator;
mod cli;
mod commands;
mod config;
mod dev;
mod keys;
mod roles;
mod telemetry;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Invoked by a container runtime as a network plugin, there are no arguments but an environment.
    if let Some(code) = commands::cni::run_if_asked() {
        return code;
    }
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // One line: what failed, then its causes.
            eprintln!("error: {}", format!("{e:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}
