//! Image archives: OCI layouts (directories or tars) and `docker save` tars, as blobs and names.

use super::reference;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Manifests, indexes and configurations are small; a larger one is no such thing.
const MAX_JSON: u64 = 8 << 20;

/// Where a blob's bytes are.
#[derive(Debug, Clone)]
enum Source {
    Memory(Vec<u8>),
    /// A range of a file: a member of a tar, or a whole file.
    File {
        path: PathBuf,
        offset: u64,
    },
}

/// Bytes that are not read until they are needed.
#[derive(Debug, Clone)]
pub struct Blob {
    source: Source,
    size: u64,
}

impl Blob {
    /// Bytes in memory.
    pub fn memory(bytes: Vec<u8>) -> Self {
        Self { size: bytes.len() as u64, source: Source::Memory(bytes) }
    }
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
    /// Reads it from the start.
    ///
    /// # Errors
    /// When the file behind it cannot be read.
    pub fn open(&self) -> std::io::Result<Box<dyn Read + Send + '_>> {
        Ok(match &self.source {
            Source::Memory(bytes) => Box::new(bytes.as_slice()),
            Source::File { path, offset } => {
                let mut file = std::fs::File::open(path)?;
                file.seek(SeekFrom::Start(*offset))?;
                Box::new(file.take(self.size))
            }
        })
    }
    fn digest(&self) -> std::io::Result<String> {
        let mut hash = Sha256::new();
        std::io::copy(&mut self.open()?, &mut hash)?;
        Ok(format!("sha256:{}", hex::encode(hash.finalize())))
    }
    fn json(&self) -> std::io::Result<Value> {
        if self.size > MAX_JSON {
            return Err(std::io::Error::other("too large for a manifest"));
        }
        Ok(serde_json::from_reader(self.open()?)?)
    }
    fn is_gzip(&self) -> std::io::Result<bool> {
        let mut magic = [0; 2];
        Ok(self.size > 2 && self.open()?.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b])
    }
}

/// A reference to a blob, as manifests write it.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// `sha256:...`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Annotations, of which the image's name is one.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    fn to_json(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }
    /// The name an index gives the image, in full.
    fn name(&self) -> Option<String> {
        let text = self
            .annotations
            .get("io.containerd.image.name")
            .or_else(|| self.annotations.get("org.opencontainers.image.ref.name"))?;
        reference::normalise(text)
    }
}

/// A blob and what it refers to, children before parents.
#[derive(Debug)]
pub struct Node {
    /// The blob's descriptor.
    pub descriptor: Descriptor,
    /// What it refers to: (`config`, `l.0`, `m.0`, ...; digest).
    pub references: Vec<(String, String)>,
}

/// An archive's blobs and images.
#[derive(Debug, Default)]
pub struct Bundle {
    blobs: HashMap<String, Blob>,
    images: Vec<(String, Descriptor)>,
}

impl Bundle {
    /// The images: full name and manifest (or index).
    pub fn images(&self) -> &[(String, Descriptor)] {
        &self.images
    }
    /// A blob by digest.
    pub fn blob(&self, digest: &str) -> Option<&Blob> {
        self.blobs.get(digest)
    }
    /// Adds a blob in memory as an uncompressed layer.
    pub fn add(&mut self, blob: Blob) -> Descriptor {
        self.insert(blob, OCI_LAYER).unwrap_or_else(|_| Descriptor {
            media_type: OCI_LAYER.into(),
            digest: String::new(),
            size: 0,
            annotations: BTreeMap::new(),
        })
    }
    /// Makes an image out of uncompressed layers and the `config` part of its configuration.
    pub fn compose(&mut self, name: &str, layers: Vec<Descriptor>, config: Value) {
        let diffs: Vec<&str> = layers.iter().map(|l| l.digest.as_str()).collect();
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture, "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": diffs },
        });
        let config = Blob::memory(config.to_string().into_bytes());
        // Reading memory cannot fail.
        if let Ok(config) = self.insert(config, OCI_CONFIG) {
            let _ = self.manifest(name, &config, &layers);
        }
    }
    /// Everything an image consists of, children before parents; blobs the archive lacks (other
    /// platforms) are left out.
    ///
    /// # Errors
    /// When a manifest cannot be read, or nothing of the image is there.
    pub fn walk(&self, root: &Descriptor) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        self.visit(root, 0, &mut nodes)?;
        Ok(nodes)
    }

    fn visit(&self, descriptor: &Descriptor, depth: usize, nodes: &mut Vec<Node>) -> Result<()> {
        let Some(blob) = self.blobs.get(&descriptor.digest) else {
            if depth == 0 {
                return Err(bad(&descriptor.digest, "the archive lacks this manifest"));
            }
            return Ok(());
        };
        let mut references = Vec::new();
        let is_manifest = descriptor.media_type.contains("manifest") || descriptor.media_type.contains("index");
        if is_manifest && depth < 4 {
            let json = blob.json().map_err(|e| bad(&descriptor.digest, e))?;
            for (label, child) in children(&json) {
                self.visit(&child, depth + 1, nodes)?;
                references.push((label, child.digest));
            }
        }
        nodes.push(Node { descriptor: Descriptor { size: blob.size, ..descriptor.clone() }, references });
        Ok(())
    }

    fn insert(&mut self, blob: Blob, media_type: &str) -> std::io::Result<Descriptor> {
        let digest = blob.digest()?;
        let size = blob.size;
        self.blobs.insert(digest.clone(), blob);
        Ok(Descriptor { media_type: media_type.into(), digest, size, annotations: BTreeMap::new() })
    }

    fn manifest(&mut self, name: &str, config: &Descriptor, layers: &[Descriptor]) -> std::io::Result<()> {
        let layers: Vec<Value> = layers.iter().map(Descriptor::to_json).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.to_json(), "layers": layers,
        });
        let descriptor = self.insert(Blob::memory(manifest.to_string().into_bytes()), OCI_MANIFEST)?;
        self.images.push((name.to_owned(), descriptor));
        Ok(())
    }
}

/// The descriptors in a manifest or index, with the label containerd's collector wants for each.
fn children(json: &Value) -> Vec<(String, Descriptor)> {
    let parse = |v: &Value| serde_json::from_value::<Descriptor>(v.clone()).ok();
    let list = |key: &str| json.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut found: Vec<(String, Descriptor)> = Vec::new();
    found.extend(json.get("config").and_then(parse).map(|d| ("config".to_owned(), d)));
    found.extend(list("layers").iter().filter_map(parse).enumerate().map(|(i, d)| (format!("l.{i}"), d)));
    found.extend(list("manifests").iter().filter_map(parse).enumerate().map(|(i, d)| (format!("m.{i}"), d)));
    found
}

fn bad(path: impl std::fmt::Display, why: impl std::fmt::Display) -> Error {
    Error::Archive { path: path.to_string(), why: why.to_string() }
}

/// The digest of bytes, as descriptors write it.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layer with these files: (path, mode, content).
pub fn layer(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        // A path that does not fit a tar header is a mistake of the caller; the image then lacks the file.
        let _ = tar.append_data(&mut header, path, *content);
    }
    tar.into_inner().unwrap_or_default()
}

/// Reads an OCI layout directory, an OCI tar or a `docker save` tar, plain or gzipped. `scratch` takes
/// the plain form of a gzipped one.
///
/// # Errors
/// When it is none of these, or broken.
pub fn open(path: &Path, scratch: &Path) -> Result<Bundle> {
    let what = path.display();
    let files = if path.is_dir() { directory(path) } else { members(path, scratch) }.map_err(|e| bad(&what, e))?;
    if let Some(index) = files.get("index.json") {
        let bundle = layout(&files, index).map_err(|e| bad(&what, e))?;
        if !bundle.images.is_empty() {
            return Ok(bundle);
        }
    }
    let manifest = files.get("manifest.json").ok_or_else(|| {
        bad(&what, "neither an OCI layout (index.json with named images) nor a docker archive (manifest.json)")
    })?;
    docker(&files, manifest).map_err(|e| bad(&what, e))
}

type Files = BTreeMap<String, Blob>;

fn directory(root: &Path) -> std::io::Result<Files> {
    let mut files = Files::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        for entry in std::fs::read_dir(root.join(&relative))? {
            let entry = entry?;
            let name = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                pending.push(name);
            } else if entry.file_type()?.is_file() {
                let source = Source::File { path: entry.path(), offset: 0 };
                files.insert(name.to_string_lossy().into_owned(), Blob { source, size: entry.metadata()?.len() });
            }
        }
    }
    Ok(files)
}

fn members(path: &Path, scratch: &Path) -> std::io::Result<Files> {
    let mut magic = [0; 2];
    std::fs::File::open(path)?.read_exact(&mut magic)?;
    let plain = if magic == [0x1f, 0x8b] {
        let mut out = std::fs::File::create(scratch)?;
        std::io::copy(&mut flate2::read::MultiGzDecoder::new(std::fs::File::open(path)?), &mut out)?;
        scratch
    } else {
        path
    };
    let mut files = Files::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(std::fs::File::open(plain)?);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        if entry.header().entry_type().is_file() {
            let source = Source::File { path: plain.into(), offset: entry.raw_file_position() };
            files.insert(name, Blob { source, size: entry.size() });
        } else if let Some(target) = entry.link_name()? {
            // Older `docker save` writes a layer that occurs twice as a link to the first.
            links.push((name, target.to_string_lossy().trim_start_matches("../").to_owned()));
        }
    }
    for (name, target) in links {
        if let Some(blob) = files.get(&target).cloned() {
            files.insert(name, blob);
        }
    }
    Ok(files)
}

fn layout(files: &Files, index: &Blob) -> std::io::Result<Bundle> {
    let mut bundle = Bundle::default();
    for (path, blob) in files {
        if let Some(hash) = path.strip_prefix("blobs/sha256/") {
            bundle.blobs.insert(format!("sha256:{hash}"), blob.clone());
        }
    }
    for (_, descriptor) in children(&index.json()?) {
        if let Some(name) = descriptor.name() {
            bundle.images.push((name, descriptor));
        }
    }
    Ok(bundle)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn docker(files: &Files, manifest: &Blob) -> std::io::Result<Bundle> {
    let images: Vec<DockerImage> = serde_json::from_reader(manifest.open()?)?;
    let member = |name: &str| {
        files
            .get(name)
            .cloned()
            .ok_or_else(|| std::io::Error::other(format!("manifest.json names {name}, which is missing")))
    };
    let mut bundle = Bundle::default();
    for image in images {
        let config = bundle.insert(member(&image.config)?, OCI_CONFIG)?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            let blob = member(layer)?;
            let media_type = if blob.is_gzip()? { format!("{OCI_LAYER}+gzip") } else { OCI_LAYER.to_owned() };
            layers.push(bundle.insert(blob, &media_type)?);
        }
        for tag in image.repo_tags.unwrap_or_default() {
            let name = reference::normalise(&tag)
                .ok_or_else(|| std::io::Error::other(format!("{tag:?} is no image reference")))?;
            bundle.manifest(&name, &config, &layers)?;
        }
    }
    if bundle.images.is_empty() {
        return Err(std::io::Error::other("no image in it has a name"));
    }
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker_tar(layer_name: &str) -> Vec<u8> {
        let rootfs = layer(&[("hello", 0o644, b"hi")]);
        let manifest = json!([{ "Config": "c.json", "RepoTags": ["web:1"], "Layers": ["l/layer.tar"] }]).to_string();
        layer(&[
            ("c.json", 0o644, br#"{"os":"linux"}"#.as_slice()),
            (layer_name, 0o644, &rootfs),
            ("manifest.json", 0o644, manifest.as_bytes()),
        ])
    }

    #[test]
    fn docker_archives_become_oci_images() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.tar");
        std::fs::write(&path, docker_tar("l/layer.tar")).unwrap();
        let bundle = open(&path, &dir.path().join("scratch")).unwrap();
        let (name, root) = &bundle.images()[0];
        assert_eq!(name, "docker.io/library/web:1");
        let nodes = bundle.walk(root).unwrap();
        let kinds: Vec<&str> = nodes.iter().map(|n| n.descriptor.media_type.as_str()).collect();
        assert_eq!(kinds, [OCI_CONFIG, OCI_LAYER, OCI_MANIFEST], "children come before the manifest");
        for node in &nodes {
            let blob = bundle.blob(&node.descriptor.digest).unwrap();
            assert_eq!(blob.digest().unwrap(), node.descriptor.digest);
        }
        assert_eq!(nodes[2].references[1].0, "l.0");
    }

    #[test]
    fn an_archive_without_its_layer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.tar");
        std::fs::write(&path, docker_tar("elsewhere")).unwrap();
        let error = open(&path, &dir.path().join("scratch")).unwrap_err().to_string();
        assert!(error.ends_with("manifest.json names l/layer.tar, which is missing"), "{error}");
        std::fs::write(&path, b"no tar").unwrap();
        assert!(open(&path, &dir.path().join("scratch")).is_err());
    }

    #[test]
    fn gzipped_oci_layouts_are_read() {
        use std::io::Write;
        let mut made = Bundle::default();
        let l = made.add(Blob::memory(layer(&[("x", 0o644, b"y")])));
        made.compose("a.b/c:1", vec![l], json!({}));
        let (name, root) = made.images()[0].clone();
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for (digest, blob) in &made.blobs {
            let mut bytes = Vec::new();
            blob.open().unwrap().read_to_end(&mut bytes).unwrap();
            files.push((format!("blobs/sha256/{}", &digest[7..]), bytes));
        }
        let index = json!({ "manifests": [{ "mediaType": root.media_type, "digest": root.digest, "size": root.size,
            "annotations": { "org.opencontainers.image.ref.name": name } }] });
        files.push(("index.json".into(), index.to_string().into_bytes()));
        let list: Vec<(&str, u32, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), 0o644, b.as_slice())).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&layer(&list)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("i.tgz"), gzip.finish().unwrap()).unwrap();
        let bundle = open(&dir.path().join("i.tgz"), &dir.path().join("scratch")).unwrap();
        assert_eq!(bundle.images()[0].0, "a.b/c:1");
        assert_eq!(bundle.walk(&bundle.images()[0].1).unwrap().len(), 3);
    }
}
