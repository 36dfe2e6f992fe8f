//! Licences and bans, from cargo's own tree: works without a network.

use anyhow::{Context, Result, bail};
use std::process::Command;

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
    "MPL-2.0+",
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
];

/// Checks every package that is linked on this platform.
///
/// # Errors
/// With every package that may not be used.
pub fn check() -> Result<()> {
    let tree = linked()?;
    let mut wrong = Vec::new();
    for (name, licence) in tree.lines().filter_map(|l| l.split_once('|')) {
        let name = name.split(' ').next().unwrap_or_default();
        if let Some((_, why)) = BANNED.iter().find(|(b, _)| *b == name) {
            wrong.push(format!("{name} is banned ({why})"));
        }
        if !acceptable(licence.trim_end_matches(" (*)")) {
            wrong.push(format!("{name} has licence {licence:?}"));
        }
    }
    wrong.sort();
    wrong.dedup();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

/// Every linked package as `name version|licence`, a line each.
fn linked() -> Result<String> {
    let args = [
        "tree",
        "--workspace",
        "--locked",
        "--offline",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ];
    let out = Command::new("cargo").args(args).output().context("cannot run cargo tree")?;
    if !out.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
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
