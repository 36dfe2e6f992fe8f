//! Tidy rules as a check, not as folklore: file sizes, stand-ins, blanket allows, kind names outside the
//! table.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// No source file may be longer; about 400 lines is the aim.
const LONGEST_FILE: usize = 700;

/// Texts that may not stand in code, and what to do instead.
const FORBIDDEN: &[(&str, &str)] = &[
    ("todo!(", "build it, or say in docs what is missing"),
    ("unimplemented!(", "build it, or say in docs what is missing"),
    ("#![allow", "give the item its own #[expect(.., reason)]"),
    ("#[allow(", "use #[expect(.., reason)]"),
    ("FIXME", "file an issue"),
];

/// Plurals that only the kind table may decide on.
const KIND_ARMS: &[&str] =
    &["deployments", "replicasets", "statefulsets", "daemonsets", "configmaps", "persistentvolumeclaims"];

/// Checks all sources below crates/ and xtask/.
///
/// # Errors
/// With every place that breaks a rule.
pub fn check() -> Result<()> {
    let mut wrong = Vec::new();
    let mut files = Vec::new();
    for root in ["crates", "xtask/src", "tests"] {
        collect(Path::new(root), &mut files)?;
    }
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        judge(&file.display().to_string(), &text, &mut wrong);
    }
    if !wrong.is_empty() {
        bail!("\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn judge(file: &str, text: &str, wrong: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LONGEST_FILE && !file.contains("/tests/") {
        wrong.push(format!("{file}: {lines} lines (at most {LONGEST_FILE}); cut it along its duties"));
    }
    let outside_table = !file.contains("crates/api/src/kinds") && !file.contains("tests") && file.starts_with("crates");
    for (i, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") || file.ends_with("tidy.rs") {
            continue;
        }
        for (bad, instead) in FORBIDDEN {
            if code.contains(bad) {
                wrong.push(format!("{file}:{}: {bad}: {instead}", i + 1));
            }
        }
        if outside_table && code.contains("=>") && KIND_ARMS.iter().any(|k| code.starts_with(&format!("\"{k}\""))) {
            wrong.push(format!("{file}:{}: a kind's name decides here; the kind table should know", i + 1));
        }
    }
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_rules_are_named_with_their_place() {
        let mut wrong = Vec::new();
        judge("crates/x/src/a.rs", "fn f() {\n    todo!()\n}\n", &mut wrong);
        judge("crates/x/src/b.rs", "match p {\n    \"deployments\" => 1,\n}\n", &mut wrong);
        judge("crates/api/src/kinds/c.rs", "    \"deployments\" => 1,\n", &mut wrong);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].starts_with("crates/x/src/a.rs:2"));
    }
}
