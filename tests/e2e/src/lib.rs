//! Helpers for black-box tests: kubectl as a person uses it, a namespace for each test.
//!
//! Nothing here knows the server's code. The cluster is the one `KUBECONFIG` names, `KUBECTL` the client,
//! `KYBERN` the program that makes faults (tests that need it skip themselves on foreign clusters).
//! Each file of `tests/` is one topic; what two of them need lives here.

mod kubectl;
mod local;
mod manifests;
mod namespace;
mod wait;

pub use kubectl::{Background, Kubectl, kubectl_program, output, run};
pub use local::{Answer, Scratch, ask, fetch, free_port};
pub use manifests::{shell, web};
pub use namespace::Namespace;
pub use wait::{PATIENCE, ensure, eventually, within};

/// The cells of one line of a table as kubectl prints it: columns are at least two spaces apart.
pub fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}
