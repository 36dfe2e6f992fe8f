//! Volumes of a pod and how containers mount them.

use super::field::{Field, Unique};
use super::quantities;
use crate::kind::Causes;
use crate::kinds::core::storage_rules::claim;
use crate::meta::{self, names};

/// What is known of a pod's volumes when its containers are checked.
pub(super) struct Volumes<'v> {
    names: Vec<&'v str>,
}

impl Volumes<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.contains(&name)
    }
}

/// Fields that a volume source cannot do without.
const REQUIRED: [(&str, &[&str]); 14] = [
    ("persistentVolumeClaim", &["claimName"]),
    ("hostPath", &["path"]),
    ("secret", &["secretName"]),
    ("configMap", &["name"]),
    ("nfs", &["server", "path"]),
    ("csi", &["driver"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("rbd", &["image"]),
    ("cephfs", &["monitors"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("gcePersistentDisk", &["pdName"]),
    ("azureFile", &["secretName", "shareName"]),
    ("image", &["reference"]),
];

/// Checks `spec.volumes`.
pub(super) fn volumes<'v>(volumes: &Field<'_, 'v>, out: &mut Causes) -> Volumes<'v> {
    let mut seen = Unique::default();
    for volume in volumes.items() {
        let name = volume.field("name");
        name.checked(names::label, out);
        seen.check(&name, out);
        source(&volume, out);
    }
    Volumes { names: volumes.items().map(|v| v.field("name").text()).collect() }
}

fn source(volume: &Field<'_, '_>, out: &mut Causes) {
    let Some(map) = volume.value.as_object() else { return };
    let given = || map.iter().filter(|(key, value)| *key != "name" && !value.is_null()).map(|(key, _)| key.as_str());
    if given().next().is_none() {
        volume.required("must specify a volume type", out);
    }
    for extra in given().skip(1) {
        volume.field(extra).forbidden("may not specify more than 1 volume type", out);
    }
    for (kind, fields) in REQUIRED.iter().filter(|(kind, _)| map.contains_key(*kind)) {
        let source = volume.field(kind);
        for key in *fields {
            if source.field(key).is_empty() {
                source.field(key).demand(out);
            }
        }
    }
    for kind in ["secret", "configMap"] {
        files(&volume.field(kind), out);
    }
    mode(&volume.field("downwardAPI").field("defaultMode"), out);
    downward(&volume.field("downwardAPI"), out);
    projected(&volume.field("projected"), out);
    quantities::not_negative(&volume.field("emptyDir").field("sizeLimit"), out);
    host_path(&volume.field("hostPath"), out);
    volume.field("image").field("pullPolicy").optional_one_of(&["Always", "IfNotPresent", "Never"], out);
    if map.contains_key("ephemeral") {
        ephemeral(&volume.field("ephemeral"), out);
    }
}

/// A claim that is made for the pod: a claim's spec, and of its metadata what the pod does not decide.
fn ephemeral(source: &Field<'_, '_>, out: &mut Causes) {
    let template = source.field("volumeClaimTemplate");
    if !template.present() {
        return template.required("", out);
    }
    let metadata = template.field("metadata");
    meta::labels(&metadata.field("labels"), out);
    meta::annotations(&metadata.field("annotations"), out);
    let given = metadata.value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    for (name, _) in given.filter(|(name, _)| !matches!(name.as_str(), "labels" | "annotations" | "creationTimestamp"))
    {
        metadata.field(name).forbidden("may not be set", out);
    }
    claim(&template.field("spec"), out);
}

const HOST_PATH_TYPES: [&str; 7] =
    ["BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

fn host_path(source: &Field<'_, '_>, out: &mut Causes) {
    no_way_up(&source.field("path"), out);
    source.field("type").optional_one_of(&HOST_PATH_TYPES, out);
}

/// A source of files by key: `items` and `defaultMode`.
fn files(source: &Field<'_, '_>, out: &mut Causes) {
    mode(&source.field("defaultMode"), out);
    for item in source.field("items").items() {
        item.field("key").demand(out);
        if item.field("path").demand(out) {
            local_path(&item.field("path"), out);
        }
        mode(&item.field("mode"), out);
    }
}

fn mode(mode: &Field<'_, '_>, out: &mut Causes) {
    if mode.int().is_some_and(|m| !(0..=0o777).contains(&m)) {
        mode.invalid("must be a number between 0 and 0777 (octal), both inclusive", out);
    }
}

fn downward(source: &Field<'_, '_>, out: &mut Causes) {
    for file in source.field("items").items() {
        if file.field("path").demand(out) {
            local_path(&file.field("path"), out);
        }
        let (field, resource) = (file.field("fieldRef"), file.field("resourceFieldRef"));
        match (field.present(), resource.present()) {
            (true, true) => file.invalid("fieldRef and resourceFieldRef can not be specified simultaneously", out),
            (false, false) => file.required("one of fieldRef and resourceFieldRef is required", out),
            (true, false) => {
                field.field("fieldPath").demand(out);
            }
            (false, true) => {
                resource.field("containerName").demand(out);
                resource.field("resource").demand(out);
            }
        }
        mode(&file.field("mode"), out);
    }
}

fn projected(source: &Field<'_, '_>, out: &mut Causes) {
    mode(&source.field("defaultMode"), out);
    for part in source.field("sources").items() {
        let Some(map) = part.value.as_object() else { continue };
        map.keys().skip(1).for_each(|key| part.field(key).forbidden("may not specify more than 1 volume type", out));
        for kind in ["secret", "configMap"] {
            let keyed = part.field(kind);
            if keyed.present() {
                keyed.field("name").demand(out);
                files(&keyed, out);
            }
        }
        downward(&part.field("downwardAPI"), out);
        token(&part.field("serviceAccountToken"), out);
    }
}

fn token(token: &Field<'_, '_>, out: &mut Causes) {
    if !token.present() {
        return;
    }
    let expiration = token.field("expirationSeconds");
    match expiration.int() {
        Some(s) if s < 10 * 60 => expiration.invalid("may not specify a duration less than 10 minutes", out),
        Some(s) if s > 1 << 32 => expiration.invalid("may not specify a duration larger than 2^32 seconds", out),
        _ => {}
    }
    if token.field("path").demand(out) {
        local_path(&token.field("path"), out);
    }
}

/// A path inside a volume.
fn local_path(path: &Field<'_, '_>, out: &mut Causes) {
    relative(path, out);
    if path.text().starts_with("..") && !path.text().starts_with("../") && path.text() != ".." {
        path.invalid("must not start with '..'", out);
    }
}

/// Demands a path that leads down from where it is put.
pub(super) fn relative(path: &Field<'_, '_>, out: &mut Causes) {
    if path.text().starts_with('/') {
        path.invalid("must be a relative path", out);
    }
    no_way_up(path, out);
}

/// Refuses a path that leads out of where it begins.
pub(crate) fn no_way_up(path: &Field<'_, '_>, out: &mut Causes) {
    if path.text().split('/').any(|part| part == "..") {
        path.invalid("must not contain '..'", out);
    }
}

/// Checks the mounts and devices of a container.
pub(super) fn mounts(container: &Field<'_, '_>, volumes: &Volumes<'_>, out: &mut Causes) {
    let mut paths: Vec<&str> = Vec::new();
    for mount in container.field("volumeMounts").items() {
        let (name, path) = (mount.field("name"), mount.field("mountPath"));
        if name.demand(out) && !volumes.has(name.text()) {
            name.not_found(out);
        }
        if path.demand(out) && paths.contains(&path.text()) {
            path.invalid("must be unique", out);
        }
        paths.push(path.text());
        for sub in ["subPath", "subPathExpr"] {
            relative(&mount.field(sub), out);
        }
        if mount.field("subPath").set() && mount.field("subPathExpr").set() {
            mount.field("subPathExpr").invalid("subPathExpr and subPath are mutually exclusive", out);
        }
        mount.field("mountPropagation").optional_one_of(&["Bidirectional", "HostToContainer", "None"], out);
    }
    for device in container.field("volumeDevices").items() {
        let name = device.field("name");
        if name.demand(out) && !volumes.has(name.text()) {
            name.not_found(out);
        }
        device.field("devicePath").demand(out);
    }
}
