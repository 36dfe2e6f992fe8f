//! Who may import whom: the crate table of docs/architecture.md, checked against cargo's metadata.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// Each crate and the crates of ours it may import (short names).
const EDGES: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("wire", &[]),
    ("stream", &[]),
    ("raftstore", &["wire"]),
    ("authn", &["api"]),
    ("rbac", &["api"]),
    ("admission", &["api"]),
    ("client", &["api", "wire"]),
    ("reconcile", &["api", "client"]),
    ("ingress", &["api", "client"]),
    ("apiserver", &["api", "wire", "stream", "client", "raftstore", "authn", "rbac", "admission"]),
    ("controller-manager", &["api", "client", "reconcile"]),
    ("scheduler", &["api", "client", "reconcile"]),
    ("node-agent", &["api", "client", "wire", "stream", "ingress"]),
    ("testkit", &["api", "client", "apiserver", "raftstore", "authn", "rbac", "admission"]),
    ("e2e", &[]),
];

/// Crates that any test may use.
const DEV: &[&str] = &["testkit"];

/// Reads `cargo metadata` of the workspace.
///
/// # Errors
/// When cargo fails.
fn metadata() -> Result<Value> {
    let out = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .output()
        .context("cannot run cargo metadata")?;
    if !out.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(serde_json::from_slice(&out.stdout)?)
}

/// Checks every edge between our crates.
///
/// # Errors
/// With every edge that the table does not allow.
pub fn check() -> Result<()> {
    let metadata = metadata()?;
    let members: Vec<&Value> = packages(&metadata).filter(|p| p["source"].is_null()).collect();
    let table: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let wrong: Vec<String> = members
        .iter()
        .filter_map(|p| Some((short(p["name"].as_str()?)?, p)))
        .flat_map(|(name, p)| {
            edges(p)
                .filter(|(to, dev)| !allowed(&table, name, to, *dev))
                .map(move |(to, _)| format!("{name} -> {to}"))
                .collect::<Vec<_>>()
        })
        .collect();
    if !wrong.is_empty() {
        bail!("edges that the crate table does not allow: {}", wrong.join(", "));
    }
    Ok(())
}

fn allowed(table: &BTreeMap<&str, &[&str]>, from: &str, to: &str, dev: bool) -> bool {
    table.get(from).is_some_and(|t| t.contains(&to)) || (dev && DEV.contains(&to))
}

fn edges(package: &Value) -> impl Iterator<Item = (&str, bool)> {
    package["dependencies"].as_array().into_iter().flatten().filter_map(|d| {
        let dev = d["kind"].as_str() == Some("dev");
        d["source"].is_null().then(|| short(d["name"].as_str()?)).flatten().map(|n| (n, dev))
    })
}

/// The packages of a metadata document.
fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

/// `kybern-api` is `api`; the binary and xtask stand above the table.
fn short(name: &str) -> Option<&str> {
    name.strip_prefix("kybern-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_edges_are_allowed() {
        let table: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
        assert!(allowed(&table, "apiserver", "raftstore", false));
        assert!(!allowed(&table, "scheduler", "raftstore", false));
        assert!(!allowed(&table, "api", "client", false));
        assert!(allowed(&table, "scheduler", "testkit", true));
        assert!(!allowed(&table, "scheduler", "testkit", false));
    }
}
