//! The network plugin: a container runtime starts this program with `CNI_COMMAND` in its environment.

use std::process::ExitCode;

/// Runs as the plugin when the environment says so.
pub fn run_if_asked() -> Option<ExitCode> {
    let command = std::env::var("CNI_COMMAND").ok()?;
    Some(ExitCode::from(kybern_node_agent::cni::run(&command)))
}
