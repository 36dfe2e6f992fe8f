//! Licences and bans, from cargo's own metadata: works without a network.

use crate::deps::{metadata, packages};
use anyhow::{Result, bail};

/// Licences that may be linked; an expression passes when one side of each OR is here.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unlicense",
    "BSL-1.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "MPL-2.0",
    "OpenSSL",
    "CDLA-Permissive-2.0",
    "bzip2-1.0.6",
];

/// Crates that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "one TLS stack: rustls"),
    ("openssl-sys", "one TLS stack: rustls"),
    ("native-tls", "one TLS stack: rustls"),
    ("ring", "one crypto provider: aws-lc-rs"),
    ("serde_yaml", "deprecated: serde-saphyr"),
    ("serde_yml", "unsound and unmaintained: serde-saphyr"),
    ("yaml-rust", "unmaintained: serde-saphyr"),
    ("im", "unmaintained: imbl"),
    ("chrono", "one time library: jiff"),
];

/// Checks every locked package.
///
/// # Errors
/// With every package that may not be used.
pub fn check() -> Result<()> {
    let metadata = metadata()?;
    let linked = linked(&metadata);
    let mut wrong = Vec::new();
    for p in packages(&metadata).filter(|p| p["id"].as_str().is_some_and(|id| linked.contains(&id))) {
        let name = p["name"].as_str().unwrap_or_default();
        if let Some((_, why)) = BANNED.iter().find(|(b, _)| *b == name) {
            wrong.push(format!("{name} is banned ({why})"));
        }
        let licence = p["license"].as_str().unwrap_or_default();
        if !acceptable(licence) && p["license_file"].is_null() {
            wrong.push(format!("{name} has licence {licence:?}"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

/// Ids of the packages that are really part of the graph for this platform's features.
fn linked(metadata: &serde_json::Value) -> Vec<&str> {
    metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|n| n["deps"].as_array().into_iter().flatten())
        .filter(|d| {
            d["dep_kinds"].as_array().is_some_and(|k| {
                k.iter().any(|k| {
                    k["target"].is_null()
                        || k["target"].as_str().is_some_and(|t| t.contains("linux") || t.contains("unix"))
                })
            })
        })
        .filter_map(|d| d["pkg"].as_str())
        .collect()
}

fn acceptable(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ").replace(['(', ')'], " ");
    flat.split(" AND ")
        .all(|part| part.split(" OR ").any(|l| LICENCES.contains(&l.trim().trim_end_matches(" WITH LLVM-exception"))))
}

#[cfg(test)]
mod tests {
    use super::acceptable;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(acceptable(good), "{good}");
        }
        for bad in ["GPL-3.0", "", "MIT AND GPL-2.0", "BUSL-1.1"] {
            assert!(!acceptable(bad), "{bad}");
        }
    }
}
