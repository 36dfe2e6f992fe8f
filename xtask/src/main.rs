//! Project tasks: `cargo xtask verify` is the one gate (read-only), `cargo xtask fix` the one that changes
//! files.

mod bench;
mod deny;
mod deps;
mod protobuf;
mod schema;
mod soak;
mod tidy;
mod verify;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Project tasks.
#[derive(Parser)]
#[command(name = "xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check everything, change nothing: format, lints, docs, licences, crate edges, tidiness, tests
    Verify {
        /// Leave the tests out
        #[arg(long)]
        no_tests: bool,
    },
    /// Format and apply the lints' own fixes
    Fix,
    /// Check the crates' edges against the table of docs/architecture.md
    Deps,
    /// Check licences, banned and doubled crates
    Deny,
    /// Check sizes, stand-ins and naming rules
    Tidy,
    /// Measure a fresh cluster beside the limits of this machine
    Bench {
        /// What to measure
        #[arg(value_enum, default_value_t = bench::Case::Api)]
        case: bench::Case,
        /// Length of each load in seconds
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Simulated nodes of `scale`
        #[arg(long, default_value_t = 1_000)]
        nodes: usize,
        /// Pods that run before `scale` measures
        #[arg(long, default_value_t = 30_000)]
        pods: usize,
    },
    /// Run one of the long tests; without a name that exists: which there are
    Soak {
        /// Which
        name: String,
    },
    /// Make the schema table of crate api from an OpenAPI v2 document
    Schema {
        /// The document
        openapi: PathBuf,
        /// Where the table goes
        out: PathBuf,
    },
    /// Make the table of protobuf field numbers of crate api from Kubernetes' Go types
    Protobuf {
        /// Directory with the repositories api, apimachinery, apiextensions-apiserver and kube-aggregator
        sources: PathBuf,
        /// The schema table
        schema: PathBuf,
        /// Where the table goes
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Verify { no_tests } => verify::run(!no_tests),
        Task::Fix => verify::fix(),
        Task::Deps => deps::check(),
        Task::Deny => deny::check(),
        Task::Tidy => tidy::check(),
        Task::Bench { case: bench::Case::Api, seconds, .. } => bench::api(seconds),
        Task::Bench { case: bench::Case::Node, .. } => bench::node(),
        Task::Bench { case: bench::Case::Scale, nodes, pods, .. } => bench::scale(nodes, pods),
        Task::Soak { name } => soak::run(&name),
        Task::Schema { openapi, out } => schema::generate(&openapi, &out),
        Task::Protobuf { sources, schema, out } => protobuf::generate(&sources, &schema, &out),
    }
}
