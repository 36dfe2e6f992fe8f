//! The gate: every check in order, cheapest first; stops at the first that fails.

use crate::{deny, deps, tidy};
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::Instant;

type Step = (&'static str, fn() -> Result<()>);

/// Runs the gate.
///
/// # Errors
/// At the first check that fails.
pub fn run(tests: bool) -> Result<()> {
    let mut steps: Vec<Step> = vec![
        ("format", || cargo(&["fmt", "--all", "--check"], &[])),
        ("tidy", tidy::check),
        ("deps", deps::check),
        ("deny", deny::check),
        ("clippy", || cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])),
        ("docs", || cargo(&["doc", "--release", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])),
    ];
    if tests {
        steps.push(("tests", || cargo(&["test", "--release", "--workspace", "--exclude", "kybern-e2e"], &[])));
    }
    for (name, step) in steps {
        let begun = Instant::now();
        println!("==> {name}");
        step().with_context(|| format!("{name} failed"))?;
        println!("    {name}: {:.1} s", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Formats and applies machine-applicable lint fixes.
///
/// # Errors
/// When cargo fails.
pub fn fix() -> Result<()> {
    cargo(&["clippy", "--release", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"], &[])?;
    cargo(&["fmt", "--all"], &[])
}

fn cargo(args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    let status = Command::new("cargo").args(args).envs(env.iter().copied()).status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo {}", args.join(" "));
    }
    Ok(())
}
