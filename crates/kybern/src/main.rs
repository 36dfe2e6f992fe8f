//! `kybern`: a Kubernetes-compatible cluster in one binary.

mod allocator;
mod bench;
mod cli;
mod clock;
mod commands;
mod config;
mod dev;
mod footprint;
mod keys;
mod kubeconfigs;
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
            eprintln!("error: {}", one_line(&e));
            ExitCode::FAILURE
        }
    }
}

/// What failed, then its causes, each unless what stands before has said it already.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(|c| c.to_string().replace('\n', " ")) {
        if !line.ends_with(&cause) {
            line = if line.is_empty() { cause } else { format!("{line}: {cause}") };
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_each_cause_once() {
        let error =
            anyhow::anyhow!("denied\nby the kernel").context("open /x: denied by the kernel").context("cannot start");
        assert_eq!(one_line(&error), "cannot start: open /x: denied by the kernel");
    }
}
