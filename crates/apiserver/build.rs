//! Collects the descriptions of the Kubernetes API for `kubectl explain` from the documentation of the
//! k8s-openapi crate, so that none of those sentences has to be kept in this repository.
//!
//! The result is one compressed text: `=DEFINITION<tab>DESCRIPTION`, then ` FIELD<tab>DESCRIPTION`.

use flate2::{Compression, write::GzEncoder};
use std::collections::BTreeMap;
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["build.rs", "src/openapi.rs", "src/openapi", "../api/schema", "../../Cargo.lock"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let mut text = String::new();
    match sources() {
        Ok(root) => visit(&root, &mut text)?,
        Err(e) => println!("cargo::warning=kubectl explain will have no descriptions: {e}"),
    }
    // Clients cache documents by this: it changes whenever a document may have changed.
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    for input in ["src/openapi.rs", "src/openapi", "../api/schema"] {
        hash_files(Path::new(input), &mut hasher)?;
    }
    println!("cargo::rustc-env=KYBERN_OPENAPI_BUILD={:016X}", hasher.finish());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("descriptions.gz");
    let mut gzip = GzEncoder::new(std::fs::File::create(out)?, Compression::best());
    gzip.write_all(text.as_bytes())?;
    gzip.finish()?;
    Ok(())
}

/// Where cargo keeps the sources of k8s-openapi.
fn sources() -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").ok_or("no CARGO")?;
    let output = std::process::Command::new(cargo).args(["metadata", "--format-version=1", "--offline"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let package = packages.iter().find(|p| p["name"] == "k8s-openapi").ok_or("no k8s-openapi")?;
    let manifest = package["manifest_path"].as_str().ok_or("no manifest path")?;
    Ok(Path::new(manifest).with_file_name("src").join("v1_36"))
}

fn sorted(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries = std::fs::read_dir(dir)?.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    Ok(entries)
}

fn visit(dir: &Path, text: &mut String) -> std::io::Result<()> {
    for path in sorted(dir)? {
        if path.is_dir() {
            visit(&path, text)?;
        } else {
            read(&std::fs::read_to_string(&path)?, text);
        }
    }
    Ok(())
}

fn hash_files(path: &Path, hasher: &mut DefaultHasher) -> std::io::Result<()> {
    if path.is_dir() {
        return sorted(path)?.iter().try_for_each(|p| hash_files(p, hasher));
    }
    std::fs::read(path)?.hash(hasher);
    Ok(())
}

/// Reads the documentation of the one type a file defines.
fn read(source: &str, text: &mut String) {
    let Some(name) = source.lines().find_map(|l| l.strip_prefix("// Generated from definition ")) else { return };
    let json_names: BTreeMap<&str, &str> = source.lines().filter_map(json_name).collect();
    let mut doc: Vec<&str> = Vec::new();
    let mut started = false;
    for line in source.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            doc.push(words.trim());
        } else if line.starts_with("pub struct ") && !started {
            started = true;
            push(text, '=', name, &mut doc);
        } else if let (true, Some(field)) = (started, line.strip_prefix("pub ")) {
            let field = field.split(':').next().unwrap_or_default();
            push(text, ' ', json_names.get(field).unwrap_or(&field), &mut doc);
        } else if started && line == "}" {
            return;
        } else if !line.starts_with('#') {
            doc.clear();
        }
    }
}

/// `"imagePullPolicy" => Field::Key_image_pull_policy,`
fn json_name(line: &str) -> Option<(&str, &str)> {
    let (json, field) = line.trim().split_once(" => Field::Key_")?;
    Some((field.trim_end_matches(','), json.trim_matches('"')))
}

fn push(text: &mut String, mark: char, name: &str, doc: &mut Vec<&str>) {
    text.push(mark);
    text.push_str(name);
    text.push('\t');
    // Paragraphs stay apart; line feeds would end the entry. Rust's documentation escapes some characters.
    let plain = doc.join("\u{1}");
    let plain =
        [r"\<", r"\>", r"\[", r"\]", r"\\"].iter().fold(plain, |text, escaped| text.replace(escaped, &escaped[1..]));
    text.push_str(&plain);
    text.push('\n');
    doc.clear();
}
