//! The rules that level restricted adds.

use super::baseline::{added_beyond, containers, finding, unconfined};
use super::checks::Finding;
use super::pod::{Pod, distinct, named, quoted};
use crate::paths::{list, text};
use serde_json::Value;

pub(super) fn privilege_escalation(pod: &Pod<'_>) -> Option<Finding> {
    let path = "/securityContext/allowPrivilegeEscalation";
    let must = "must set securityContext.allowPrivilegeEscalation=false";
    let details = containers(pod, must, |c| c.pointer(path) != Some(&Value::Bool(false)));
    finding("allowPrivilegeEscalation != false", details, "")
}

/// Windows has no such thing; since v1.25 its pods are left alone.
pub(super) fn privilege_escalation_linux(pod: &Pod<'_>) -> Option<Finding> {
    if pod.is_windows() { None } else { privilege_escalation(pod) }
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Finding> {
    let drops_all = |c: &Value| list(c, "/securityContext/capabilities/drop").iter().any(|d| d == "ALL");
    let must = "must set securityContext.capabilities.drop=[\"ALL\"]";
    let mut details = containers(pod, must, |c| !drops_all(c));
    details.extend(added_beyond(pod, &["NET_BIND_SERVICE"]));
    finding("unrestricted capabilities", details, "; ")
}

pub(super) fn capabilities_linux(pod: &Pod<'_>) -> Option<Finding> {
    if pod.is_windows() { None } else { capabilities(pod) }
}

/// Volumes that come from the cluster and not from the node.
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Finding> {
    let kind = |v: &Value| -> Option<String> {
        let set = v.as_object()?.iter().find(|(key, value)| *key != "name" && !value.is_null())?;
        (!VOLUMES.contains(&set.0.as_str())).then(|| set.0.clone())
    };
    let wrong: Vec<(&str, String)> =
        pod.list("/volumes").iter().filter_map(|v| Some((text(v, "/name"), kind(v)?))).collect();
    if wrong.is_empty() {
        return None;
    }
    let names: Vec<&str> = wrong.iter().map(|(name, _)| *name).collect();
    let kinds = distinct(wrong.iter().map(|(_, kind)| kind.as_str()).collect());
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if kinds.len() == 1 { "type" } else { "types" };
    let detail = format!("{} {verb} restricted volume {noun} {}", named("volume", &names), quoted(kinds.iter()));
    Some(Finding { reason: "restricted volume types", detail })
}

pub(super) fn run_as_non_root(pod: &Pod<'_>) -> Option<Finding> {
    let path = "/securityContext/runAsNonRoot";
    let says = |c: &Value| c.pointer(path).and_then(Value::as_bool);
    let of_pod = pod.at(path).and_then(Value::as_bool);
    let silent = pod.containers_where(|c| says(c).is_none());
    let explicit = pod.containers_where(|c| says(c) == Some(false));
    let mut details = Vec::new();
    // A pod's own word counts only for containers that say nothing.
    if of_pod == Some(false) {
        details.push("pod must not set securityContext.runAsNonRoot=false".to_owned());
    }
    if !explicit.is_empty() {
        details.push(format!("{} must not set securityContext.runAsNonRoot=false", named("container", &explicit)));
    }
    if of_pod.is_none() && !silent.is_empty() {
        details.push(format!("pod or {} must set securityContext.runAsNonRoot=true", named("container", &silent)));
    }
    finding("runAsNonRoot != true", details, "; ")
}

pub(super) fn run_as_user(pod: &Pod<'_>) -> Option<Finding> {
    let path = "/securityContext/runAsUser";
    let mut details = Vec::new();
    if pod.at(path).and_then(Value::as_i64) == Some(0) {
        details.push("pod must not set runAsUser=0".to_owned());
    }
    details.extend(containers(pod, "must not set runAsUser=0", |c| c.pointer(path).and_then(Value::as_i64) == Some(0)));
    finding("runAsUser=0", details, " and ")
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Finding> {
    let path = "/securityContext/seccompProfile/type";
    let mut details = unconfined(pod);
    let silent = pod.containers_where(|c| text(c, path).is_empty());
    if pod.text(path).is_empty() && !silent.is_empty() {
        details.push(format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            named("container", &silent)
        ));
    }
    finding("seccompProfile", details, "; ")
}

pub(super) fn seccomp_linux(pod: &Pod<'_>) -> Option<Finding> {
    if pod.is_windows() { None } else { seccomp(pod) }
}
