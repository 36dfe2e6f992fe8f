//! Security contexts as CRI takes them.

use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext};
use kybern_wire::cri as pb;
use std::collections::HashMap;

/// Parts of /proc and /sys that tell or change too much.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// Parts of /proc that may be read only.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn namespaces(spec: &PodSpec) -> pb::NamespaceOption {
    use pb::NamespaceMode::{Container, Node, Pod};
    let yes = |o: Option<bool>| o.unwrap_or(false);
    let pid = match (yes(spec.host_pid), yes(spec.share_process_namespace)) {
        (true, _) => Node,
        (_, true) => Pod,
        _ => Container,
    };
    pb::NamespaceOption {
        network: if yes(spec.host_network) { Node } else { Pod }.into(),
        pid: pid.into(),
        ipc: if yes(spec.host_ipc) { Node } else { Pod }.into(),
        target_id: String::new(),
    }
}

fn integer(value: Option<i64>) -> Option<pb::Int64Value> {
    value.map(|value| pb::Int64Value { value })
}

fn groups(pod: Option<&PodSecurityContext>) -> Vec<i64> {
    let Some(pod) = pod else { return Vec::new() };
    pod.supplemental_groups.iter().flatten().copied().chain(pod.fs_group).collect()
}

fn seccomp(profile: Option<&SeccompProfile>) -> pb::SecurityProfile {
    use pb::security_profile::ProfileType;
    let (kind, localhost_ref) = match profile.map(|p| (p.type_.as_str(), p.localhost_profile.clone())) {
        Some(("RuntimeDefault", _)) => (ProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", path)) => (ProfileType::Localhost, path.unwrap_or_default()),
        _ => (ProfileType::Unconfined, String::new()),
    };
    pb::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

fn privileged(c: &Container) -> bool {
    c.security_context.as_ref().and_then(|s| s.privileged).unwrap_or(false)
}

/// The sandbox's own context.
pub fn sandbox(spec: &PodSpec) -> pb::LinuxSandboxSecurityContext {
    let pod = spec.security_context.as_ref();
    pb::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        run_as_user: integer(pod.and_then(|p| p.run_as_user)),
        run_as_group: integer(pod.and_then(|p| p.run_as_user.and(p.run_as_group))),
        supplemental_groups: groups(pod),
        privileged: spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(privileged),
        seccomp: Some(seccomp(pod.and_then(|p| p.seccomp_profile.as_ref()))),
        ..Default::default()
    }
}

/// The pod's sysctls.
pub fn sysctls(spec: &PodSpec) -> HashMap<String, String> {
    let list = spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    list.map(|s| (s.name.clone(), s.value.clone())).collect()
}

/// A container's context: its own words, else the pod's.
///
/// # Errors
/// When it must not be root and would be.
pub fn container(spec: &PodSpec, c: &Container, image: &pb::Image) -> Result<pb::LinuxContainerSecurityContext> {
    let pod = spec.security_context.as_ref();
    let own = c.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(pod.and_then(|p| p.run_as_user));
    let group = own.run_as_group.or(pod.and_then(|p| p.run_as_group));
    if own.run_as_non_root.or(pod.and_then(|p| p.run_as_non_root)) == Some(true) {
        check_not_root(user, image)?;
    }
    let image_uid = image.uid.as_ref().map(|u| u.value);
    let by_name = user.is_none() && image_uid.is_none() && !image.username.is_empty();
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    Ok(pb::LinuxContainerSecurityContext {
        capabilities: Some(capabilities(&own)),
        privileged,
        namespace_options: Some(namespaces(spec)),
        // A group alone needs a user beside it: the image's, or root.
        run_as_user: integer(user.or(image_uid).or(group.filter(|_| !by_name).map(|_| 0))),
        run_as_group: integer(group),
        run_as_username: if by_name { image.username.clone() } else { String::new() },
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(own.seccomp_profile.as_ref().or(pod.and_then(|p| p.seccomp_profile.as_ref())))),
        ..Default::default()
    })
}

fn capabilities(own: &SecurityContext) -> pb::Capability {
    let written = own.capabilities.clone().unwrap_or_default();
    pb::Capability {
        add_capabilities: written.add.unwrap_or_default(),
        drop_capabilities: written.drop.unwrap_or_default(),
    }
}

fn check_not_root(user: Option<i64>, image: &pb::Image) -> Result<()> {
    let root = "container's runAsUser breaks non-root policy";
    match (user, image.uid.as_ref().map(|u| u.value), image.username.as_str()) {
        (Some(0), _, _) => Err(Error::Pod(root.into())),
        (Some(_), _, _) => Ok(()),
        (None, Some(0), _) => Err(Error::Pod("container has runAsNonRoot and image will run as root".into())),
        (None, Some(_), _) => Ok(()),
        (None, None, "") => Err(Error::Pod("container has runAsNonRoot and image will run as root".into())),
        (None, None, name) => Err(Error::Pod(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(
        pod: serde_json::Value,
        own: serde_json::Value,
        image: pb::Image,
    ) -> Result<pb::LinuxContainerSecurityContext> {
        let spec = serde_json::from_value(json!({"containers": [], "securityContext": pod})).unwrap();
        container(&spec, &serde_json::from_value(json!({"name": "c", "securityContext": own})).unwrap(), &image)
    }

    #[test]
    fn a_containers_words_go_before_the_pods() {
        let made =
            made(json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3}), json!({"runAsUser": 9}), pb::Image::default());
        let made = made.unwrap();
        assert_eq!((made.run_as_user.unwrap().value, made.run_as_group.unwrap().value), (9, 2));
        assert_eq!(made.supplemental_groups, [3]);
        assert!(made.masked_paths.contains(&"/proc/kcore".to_owned()));
    }

    #[test]
    fn non_root_is_enforced() {
        let named = pb::Image { username: "app".into(), ..Default::default() };
        let numbered = pb::Image { uid: Some(pb::Int64Value { value: 7 }), ..Default::default() };
        let strict = || json!({"runAsNonRoot": true});
        assert!(made(strict(), json!({}), pb::Image::default()).is_err());
        assert!(made(strict(), json!({}), named).unwrap_err().to_string().contains("non-numeric user (app)"));
        assert!(made(strict(), json!({"runAsUser": 0}), numbered.clone()).is_err());
        assert_eq!(made(strict(), json!({}), numbered).unwrap().run_as_user.unwrap().value, 7);
    }
}
