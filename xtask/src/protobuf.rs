//! `cargo xtask protobuf`: makes the table of protobuf field numbers of `kybern-api` from the struct tags
//! of Kubernetes' Go types (repositories api, apimachinery, apiextensions-apiserver and kube-aggregator,
//! side by side in one directory) for the definitions of the schema table.
//!
//! The types themselves stay in the schema table; this one says how its definitions travel. One message
//! is a line `=NAME` followed by one line per field:
//! - ` NUMBER NAME [z] [w]`: the field NAME of the definition. `z`: a zero value means that the field is
//!   not there (it is no pointer, and JSON leaves it out when empty). `w`: a list that travels inside a
//!   message of its own, as field 1.
//! - ` NUMBER >MESSAGE`: a message whose fields belong to the same object in JSON.
//! - ` NUMBER =TYPE`: the message is a free-form value, and this is one of the ways to say it; `*` is
//!   JSON text, other types are written as in the schema table.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Repositories' directories and what their packages are called in the schema table.
const ROOTS: &[(&str, &str)] = &[
    ("api", "io.k8s.api"),
    ("apimachinery", "io.k8s.apimachinery"),
    ("apiextensions-apiserver", "io.k8s.apiextensions-apiserver"),
    ("kube-aggregator", "io.k8s.kube-aggregator"),
];

/// A field of a Go struct with a protobuf tag.
struct Tagged {
    number: u32,
    /// Name in JSON; None where JSON has none (`-`, or no tag).
    json: Option<String>,
    go_type: String,
    inline: bool,
    omit_empty: bool,
}

#[derive(Default)]
struct Sources {
    structs: BTreeMap<String, Vec<Tagged>>,
    /// Named list types that are messages.
    wrappers: BTreeSet<String>,
}

/// Fields and their types, by definition.
type Schema<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>;

/// Writes the table for the sources below `sources` and the schema table at `schema` to `out`.
pub(crate) fn generate(sources: &Path, schema: &Path, out: &Path) -> Result<()> {
    let text = std::fs::read_to_string(schema).with_context(|| format!("reading {}", schema.display()))?;
    let schema = parse_schema(&text);
    let mut found = Sources::default();
    for (directory, package) in ROOTS {
        found.read_directory(&sources.join(directory), package)?;
    }
    let mut table =
        String::from("# Protobuf field numbers of Kubernetes v1.36; made by `cargo xtask protobuf`, do not edit.\n");
    for (name, message) in messages(&schema, &found)? {
        writeln!(table, "={name}\n{message}")?;
    }
    std::fs::write(out, table.replace("\n\n", "\n")).with_context(|| format!("writing {}", out.display()))
}

fn parse_schema(text: &str) -> Schema<'_> {
    let mut schema = Schema::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(head) = line.strip_prefix('=') {
            current = head.split(' ').next().unwrap_or_default();
            schema.entry(current).or_default();
        } else if let Some((name, rest)) = line.strip_prefix(' ').and_then(|l| l.split_once(' ')) {
            let word = rest.split(' ').next().unwrap_or_default();
            schema.entry(current).or_default().insert(name, word);
        }
    }
    schema
}

impl Sources {
    fn read_directory(&mut self, directory: &Path, package: &str) -> Result<()> {
        let entries = std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                self.read_directory(&path, &format!("{package}.{name}"))?;
            } else if name.ends_with(".go") && !name.ends_with("_test.go") && !name.starts_with("generated") {
                self.read_file(&std::fs::read_to_string(&path)?, package)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, text: &str, package: &str) -> Result<()> {
        let mut current: Option<(String, Vec<Tagged>)> = None;
        let mut nullable = false;
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix("type ") {
                let mut words = declared.split_whitespace();
                let name = format!("{package}.{}", words.next().unwrap_or_default());
                let what = words.next().unwrap_or_default();
                if std::mem::take(&mut nullable) && what.starts_with("[]") {
                    self.wrappers.insert(name);
                } else if what == "struct" {
                    current = Some((name, Vec::new()));
                }
            } else if line == "}" {
                self.structs.extend(current.take().filter(|(_, fields)| !fields.is_empty()));
            } else if line.contains("+protobuf.nullable=true") {
                nullable = true;
            } else if let Some((_, fields)) = &mut current {
                fields.extend(tagged(line).with_context(|| format!("{package}: {line}"))?);
            }
        }
        Ok(())
    }
}

/// A struct's line, when it has a protobuf tag.
fn tagged(line: &str) -> Result<Option<Tagged>> {
    let Some((declared, tags)) = line.trim().split_once('`').filter(|(d, _)| !d.starts_with("//")) else {
        return Ok(None);
    };
    let tag = |key: &str| tags.split_once(&format!("{key}:\"")).and_then(|(_, rest)| rest.split('"').next());
    let Some(protobuf) = tag("protobuf").filter(|t| *t != "-") else {
        return Ok(None);
    };
    let number = protobuf.split(',').nth(1).context("no number")?.parse()?;
    let json = tag("json").unwrap_or("-");
    let (name, options) = json.split_once(',').unwrap_or((json, ""));
    Ok(Some(Tagged {
        number,
        json: Some(name).filter(|n| !matches!(*n, "-" | "")).map(str::to_owned),
        go_type: declared.split_whitespace().last().unwrap_or_default().to_owned(),
        inline: options == "inline",
        omit_empty: options.contains("omitempty"),
    }))
}

/// The messages of all definitions, and those that only lie inside of them.
fn messages(schema: &Schema<'_>, found: &Sources) -> Result<BTreeMap<String, String>> {
    let mut done = BTreeMap::new();
    let mut todo: Vec<(String, &str)> = schema.keys().map(|name| ((*name).to_owned(), *name)).collect();
    while let Some((name, host)) = todo.pop() {
        if done.contains_key(&name) {
            continue;
        }
        if let Some(fields) = found.structs.get(&name) {
            let package = name.rsplit_once('.').map_or("", |(package, _)| package);
            let mut lines = BTreeMap::new();
            for field in fields {
                if field.inline {
                    let inner = format!("{package}.{}", field.go_type);
                    lines.insert(field.number, format!(">{inner}"));
                    todo.push((inner, host));
                } else if let Some(line) = line(field, package, &schema[host], found)? {
                    lines.insert(field.number, line);
                }
            }
            let text: Vec<String> = lines.iter().map(|(number, line)| format!(" {number} {line}")).collect();
            done.insert(name, text.join("\n"));
        }
    }
    Ok(done)
}

/// What a field's line says after its number; None for fields that the definition does not have.
fn line(field: &Tagged, package: &str, host: &BTreeMap<&str, &str>, found: &Sources) -> Result<Option<String>> {
    let Some(name) = &field.json else {
        return alternative(&field.go_type, package).map(Some);
    };
    let Some(ty) = host.get(name.as_str()) else {
        return Ok(None);
    };
    let mut line = name.clone();
    let element = field.go_type.trim_start_matches("map[string]").trim_start_matches('*');
    if found.wrappers.contains(&format!("{package}.{element}")) {
        line.push_str(" w");
    } else if field.omit_empty && !field.go_type.starts_with('*') && matches!(*ty, "s" | "i" | "l" | "n" | "b" | "y") {
        line.push_str(" z");
    }
    Ok(Some(line))
}

/// A field of a type that JSON shows as its one field that is set.
fn alternative(go_type: &str, package: &str) -> Result<String> {
    Ok(match go_type {
        "[]byte" => "=*".to_owned(),
        "bool" => "=b".to_owned(),
        "[]string" => "=[s".to_owned(),
        _ => match (go_type.strip_prefix('*'), go_type.strip_prefix("[]")) {
            (Some(name), _) => format!("=@{package}.{name}"),
            (_, Some(name)) => format!("=[@{package}.{name}"),
            _ => bail!("{package}: {go_type} is no way to say a free-form value"),
        },
    })
}
