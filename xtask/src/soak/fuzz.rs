//! Decoders and requests under broken input, for as long as `KYBERN_FUZZ_SECONDS` says (one minute for each
//! of the two, if nothing is said); `KYBERN_FUZZ_SEED` chooses another run.

use anyhow::{Result, ensure};
use std::process::Command;

pub(super) fn run() -> Result<()> {
    let said = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let (seconds, seed) = (said("KYBERN_FUZZ_SECONDS", "60"), said("KYBERN_FUZZ_SEED", "2"));
    println!("    {seconds} s for each, seed {seed}");
    let status = Command::new("cargo")
        .args(["test", "--release", "--locked", "--package", "kybern-apiserver", "--test", "suite", "fuzz::", "--"])
        .args(["--nocapture", "--test-threads", "1"])
        .env("KYBERN_FUZZ_SECONDS", seconds)
        .env("KYBERN_FUZZ_SEED", seed)
        .status()?;
    ensure!(status.success(), "an input that breaks something is printed above, with the seed that led to it");
    Ok(())
}
