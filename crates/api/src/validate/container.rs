//! One container of a pod.

use super::field::{Field, Unique};
use super::volumes::{self, Volumes};
use super::{probes, profiles, quantities};
use crate::kind::Causes;
use crate::meta::names;

/// Which list of the pod a container stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `containers`
    Regular,
    /// `initContainers`
    Init,
    /// `ephemeralContainers`
    Ephemeral,
}

/// Checks a container by itself; names and host ports across containers are the pod's matter.
pub(super) fn container(c: &Field<'_, '_>, role: Role, host_network: bool, volumes: &Volumes<'_>, out: &mut Causes) {
    c.field("name").checked(names::label, out);
    image(c, out);
    c.field("imagePullPolicy").one_of(&["Always", "IfNotPresent", "Never"], out);
    c.field("terminationMessagePolicy").one_of(&["FallbackToLogsOnError", "File"], out);
    match role {
        Role::Ephemeral => {
            for key in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources"] {
                if c.field(key).present() && !c.field(key).is_empty() {
                    c.field(key).forbidden("cannot be set for an Ephemeral Container", out);
                }
            }
        }
        Role::Regular => probes::container(c, out),
        Role::Init => init(c, out),
    }
    ports(&c.field("ports"), host_network, out);
    env(&c.field("env"), out);
    env_from(&c.field("envFrom"), out);
    volumes::mounts(c, volumes, out);
    quantities::container_resources(&c.field("resources"), out);
    security(&c.field("securityContext"), out);
    for policy in c.field("resizePolicy").items() {
        policy.field("resourceName").one_of(&["cpu", "memory"], out);
        policy.field("restartPolicy").one_of(&["NotRequired", "RestartContainer"], out);
    }
}

fn image(c: &Field<'_, '_>, out: &mut Causes) {
    let image = c.field("image");
    if image.demand(out) && image.text().trim() != image.text() {
        image.invalid("must not have leading or trailing whitespace", out);
    }
}

/// Init containers that run to their end are neither probed nor hooked.
fn init(c: &Field<'_, '_>, out: &mut Causes) {
    let policy = c.field("restartPolicy");
    policy.optional_one_of(&["Always", "Never", "OnFailure"], out);
    if policy.text() == "Always" {
        return probes::container(c, out);
    }
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if c.field(key).present() {
            c.field(key).forbidden("may not be set for init containers without restartPolicy=Always", out);
        }
    }
}

fn ports(ports: &Field<'_, '_>, host_network: bool, out: &mut Causes) {
    let mut names_seen = Unique::default();
    for port in ports.items() {
        let (name, number, host) = (port.field("name"), port.field("containerPort"), port.field("hostPort"));
        if name.set() {
            name.invalid_each(names::port_name(name.text()), out);
            names_seen.check(&name, out);
        }
        match number.int().unwrap_or_default() {
            0 => number.required("", out),
            n => number.invalid_each(names::port_number(n), out),
        }
        match host.int().unwrap_or_default() {
            0 => {}
            h if !(1..=65_535).contains(&h) => host.invalid_each(names::port_number(h), out),
            h if host_network && Some(h) != number.int() => {
                number.invalid("must match `hostPort` when `hostNetwork` is true", out);
            }
            _ => {}
        }
        port.field("protocol").one_of(&["SCTP", "TCP", "UDP"], out);
    }
}

/// Fields of its pod that an environment variable can show.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn env(env: &Field<'_, '_>, out: &mut Causes) {
    for variable in env.items() {
        variable.field("name").checked(names::env_name, out);
        let from = variable.field("valueFrom");
        if from.present() {
            if variable.field("value").set() {
                from.invalid_value(&"".into(), "may not be specified when `value` is not empty", out);
            }
            value_from(&from, out);
        }
    }
}

fn value_from(from: &Field<'_, '_>, out: &mut Causes) {
    match from.len() {
        0 => {
            let text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            return from.invalid_value(&"".into(), text, out);
        }
        1 => {}
        _ => from.invalid_value(&"".into(), "may not have more than one field specified at a time", out),
    }
    let field = from.field("fieldRef");
    if field.present() {
        let path = field.field("fieldPath");
        let keyed = ["metadata.labels['", "metadata.annotations['"].iter().any(|p| path.text().starts_with(p));
        if path.demand(out) && !keyed && !ENV_FIELDS.contains(&path.text()) {
            path.unsupported(&ENV_FIELDS, out);
        }
    }
    let resource = from.field("resourceFieldRef");
    if resource.present() {
        resource.field("resource").demand(out);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        let reference = from.field(key);
        if reference.present() {
            reference.field("name").demand(out);
            reference.field("key").checked(names::config_key, out);
        }
    }
}

fn env_from(sources: &Field<'_, '_>, out: &mut Causes) {
    for source in sources.items() {
        source.field("prefix").optional(names::env_name, out);
        let given = ["configMapRef", "secretRef"].map(|key| source.field(key)).map(|r| r.present());
        match given {
            [false, false] => {
                source.invalid_value(&"".into(), "must specify one of: `configMapRef` or `secretRef`", out)
            }
            [true, true] => {
                source.invalid_value(&"".into(), "may not have more than one field specified at a time", out)
            }
            [config_map, _] => {
                let reference = source.field(if config_map { "configMapRef" } else { "secretRef" });
                reference.field("name").checked(names::subdomain, out);
            }
        }
    }
}

/// Highest user and group id.
const ID_MAX: i64 = i32::MAX as i64;

/// Checks the user and group ids and the profiles that containers and pods have in common.
pub(super) fn ids(context: &Field<'_, '_>, out: &mut Causes) {
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        context.field(key).in_range(0..=ID_MAX, out);
    }
    profiles::profiles(context, out);
}

fn security(context: &Field<'_, '_>, out: &mut Causes) {
    ids(context, out);
    context.field("procMount").optional_one_of(&["Default", "Unmasked"], out);
    let escalation = context.field("allowPrivilegeEscalation");
    if *escalation.value == false {
        if context.field("privileged").flag() {
            context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true", out);
        }
        let capabilities = context.field("capabilities");
        if capabilities.field("add").items().any(|c| matches!(c.text(), "CAP_SYS_ADMIN" | "SYS_ADMIN")) {
            context.invalid("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN", out);
        }
    }
}
