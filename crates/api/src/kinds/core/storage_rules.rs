//! What claims and volumes may ask for, offer and change.

use crate::kind::Causes;
use crate::meta::names;
use crate::meta::quantity::Quantity;
use crate::tree;
use crate::validate::quantities::{not_negative, quantity};
use crate::validate::selectors::label_selector;
use crate::validate::{Field, no_way_up};
use serde_json::Value;

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const RECLAIM: [&str; 3] = ["Delete", "Recycle", "Retain"];

const FIXED_CLAIM: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

/// Fields of a volume's spec that are no source of storage.
const NO_SOURCE: [&str; 9] = [
    "capacity",
    "accessModes",
    "claimRef",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "mountOptions",
    "volumeMode",
    "nodeAffinity",
    "volumeAttributesClassName",
];

fn access_modes(modes: &Field<'_, '_>, out: &mut Causes) {
    if modes.is_empty() {
        modes.required("at least 1 access mode is required", out);
    }
    for mode in modes.items() {
        mode.optional_one_of(&MODES, out);
    }
    if modes.len() > 1 && modes.items().any(|m| m.text() == "ReadWriteOncePod") {
        modes.forbidden("may not use ReadWriteOncePod with other access modes", out);
    }
}

/// An amount of storage that must be there and above zero.
fn storage(list: &Field<'_, '_>, out: &mut Causes) {
    let amount = list.entry("storage");
    if !amount.present() {
        return amount.required("", out);
    }
    not_negative(&amount, out);
    if quantity(&amount).is_some_and(|q| q == Quantity::from_int(0)) {
        amount.invalid(crate::validate::field::POSITIVE, out);
    }
}

/// Checks the spec of a claim, also inside a template of claims.
pub(crate) fn claim(spec: &Field<'_, '_>, out: &mut Causes) {
    access_modes(&spec.field("accessModes"), out);
    let selector = spec.field("selector");
    if selector.present() {
        label_selector(&selector, out);
    }
    let resources = spec.field("resources");
    let requests = resources.field("requests");
    if requests.entry("storage").present() {
        storage(&requests, out);
    } else {
        resources.entry("storage").required("", out);
    }
    spec.field("storageClassName").optional(names::subdomain, out);
    spec.field("volumeMode").optional_one_of(&VOLUME_MODES, out);
    let source = spec.field("dataSource");
    if source.present() {
        source.field("name").demand(out);
        source.field("kind").demand(out);
    }
}

/// Checks a change of a claim: it may be given a volume once, and a bound one may grow.
pub(super) fn claim_update(root: &Field<'_, '_>, old: &Value, out: &mut Causes) {
    let spec = root.field("spec");
    let then = tree::at(old, "spec").unwrap_or(&tree::NULL);
    let mut allowed = spec.value.clone();
    if let (Some(size), Some(requests)) =
        (tree::at(then, "resources.requests.storage"), tree::at_mut(&mut allowed, "resources.requests"))
    {
        requests["storage"] = size.clone();
    }
    if tree::text(then, "volumeName").is_empty() {
        tree::copy(&mut allowed, then, "volumeName");
    }
    if tree::text(then, "storageClassName").is_empty() && !then.get("storageClassName").is_some_and(Value::is_string) {
        // A claim made before there was a default class may get one.
        tree::copy(&mut allowed, then, "storageClassName");
    }
    let bound = tree::text(old, "status.phase") == "Bound";
    if bound {
        tree::copy(&mut allowed, then, "volumeAttributesClassName");
    }
    if allowed != *then {
        return spec.forbidden(FIXED_CLAIM, out);
    }
    let resources = spec.field("resources");
    let requests = resources.field("requests");
    let size = requests.field("storage");
    let before = tree::at(then, "resources.requests.storage").and_then(|v| Quantity::from_value(v).ok());
    let capacity = tree::at(old, "status.capacity.storage").and_then(|v| Quantity::from_value(v).ok());
    match (quantity(&size), before) {
        (Some(now), Some(before)) if now != before && !bound => {
            spec.forbidden(FIXED_CLAIM, out);
        }
        (Some(now), Some(before)) if now < before && capacity.is_none_or(|c| now <= c) => {
            size.forbidden("field can not be less than status.capacity", out);
        }
        _ => {}
    }
}

/// Checks the spec of a volume.
pub(super) fn volume(spec: &Field<'_, '_>, out: &mut Causes) {
    access_modes(&spec.field("accessModes"), out);
    let capacity = spec.field("capacity");
    if capacity.is_empty() {
        capacity.required("", out);
    } else if !capacity.entry("storage").present() || capacity.len() > 1 {
        capacity.unsupported(&["storage"], out);
    } else {
        storage(&capacity, out);
    }
    let reclaim = spec.field("persistentVolumeReclaimPolicy");
    reclaim.optional_one_of(&RECLAIM, out);
    spec.field("storageClassName").optional(names::subdomain, out);
    spec.field("volumeMode").optional_one_of(&VOLUME_MODES, out);
    let affinity = spec.field("nodeAffinity");
    if affinity.present() && !affinity.field("required").present() {
        affinity.field("required").required("must specify required node constraints", out);
    }
    sources(spec, out);
    let host = spec.field("hostPath");
    if host.field("path").text() == "/" && reclaim.text() == "Recycle" {
        reclaim.forbidden("may not be 'recycle' for a hostPath mount of '/'", out);
    }
}

fn sources(spec: &Field<'_, '_>, out: &mut Causes) {
    let given: Vec<&str> = spec
        .value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| !NO_SOURCE.contains(&key.as_str()) && !value.is_null())
        .map(|(key, _)| key.as_str())
        .collect();
    if given.is_empty() {
        spec.required("must specify a volume type", out);
    }
    for extra in given.iter().skip(1) {
        spec.field(extra).forbidden("may not specify more than 1 volume type", out);
    }
    for kind in ["hostPath", "local"].iter().filter(|kind| given.contains(kind)) {
        let source = spec.field(kind);
        let path = source.field("path");
        path.demand(out);
        no_way_up(&path, out);
    }
    if given.contains(&"local") && !spec.field("nodeAffinity").present() {
        spec.field("nodeAffinity").required("Local volume requires node affinity", out);
    }
    let nfs = spec.field("nfs");
    if nfs.present() {
        nfs.field("server").demand(out);
        let path = nfs.field("path");
        if path.demand(out) && !path.text().starts_with('/') {
            path.invalid("must be an absolute path", out);
        }
    }
}

/// Checks a change of a volume: what it is made of stays.
pub(super) fn volume_update(spec: &Field<'_, '_>, old: &Value, out: &mut Causes) {
    let root = Field::root(old);
    let before = root.field("spec");
    let source = |spec: &Value| {
        let mut source = spec.clone();
        NO_SOURCE.iter().for_each(|key| drop(tree::remove(&mut source, key)));
        source
    };
    if source(spec.value) != source(before.value) {
        spec.field("persistentvolumesource").forbidden("spec.persistentvolumesource is immutable after creation", out);
    }
    spec.field("volumeMode").immutable(&before.field("volumeMode"), out);
    let affinity = before.field("nodeAffinity");
    if affinity.present() {
        spec.field("nodeAffinity").immutable(&affinity, out);
    }
}

/// What the older of the two fields for a source may name: group and kind.
const PLAIN_SOURCES: [(&str, &str); 2] = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];

/// `dataSource` is the older name of `dataSourceRef`; each fills the other. What only the newer one may name
/// is dropped from the older, unless it was there before (`known`).
pub(super) fn data_sources(spec: &mut Value, known: bool) {
    let plain = |source: &Value| PLAIN_SOURCES.contains(&(tree::text(source, "apiGroup"), tree::text(source, "kind")));
    let source = spec.get("dataSource").filter(|s| s.is_object()).cloned();
    let reference = spec.get("dataSourceRef").filter(|s| s.is_object()).cloned();
    match (source, reference) {
        (Some(source), None) if known || plain(&source) => tree::set_if_absent(spec, "dataSourceRef", source),
        (Some(_), None) => drop(tree::remove(spec, "dataSource")),
        (None, Some(reference)) if tree::text(&reference, "namespace").is_empty() => {
            let mut source = reference;
            tree::remove(&mut source, "namespace");
            tree::set_if_absent(spec, "dataSource", source);
        }
        _ => {}
    }
}
