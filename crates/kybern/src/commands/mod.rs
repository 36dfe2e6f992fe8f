//! The verbs.

pub mod cni;
mod doctor;
mod identity;
mod image;
mod net;
mod rotate;
mod token;

use crate::cli::{Cli, Command};
use crate::{bench, dev, roles};
use anyhow::Result;

/// Runs one verb to its end.
///
/// # Errors
/// One line with the cause and what to do.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Server(args) => roles::server::run(args),
        Command::Agent(args) => roles::agent::run(args),
        Command::Dev(command) => dev::run(command),
        Command::Image(command) => image::run(command),
        Command::Token(command) => token::run(command),
        Command::Kubeconfig(command) => identity::kubeconfig(command),
        Command::Certificate(command) => identity::certificate(command),
        Command::Auth(command) => identity::auth(command),
        Command::Doctor(args) => doctor::run(args),
        Command::Net(command) => net::run(command),
        Command::Bench(command) => bench::run(command),
    }
}
