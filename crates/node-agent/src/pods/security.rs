//! Security contexts as CRI takes them.

use super::config::identity;
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
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

/// The profile that is written; else the runtime's own, where the kernel can filter.
fn seccomp(profile: Option<&SeccompProfile>, supported: bool) -> pb::SecurityProfile {
    use pb::security_profile::ProfileType;
    let (kind, localhost_ref) = match profile.map(|p| (p.type_.as_str(), p.localhost_profile.clone())) {
        Some(("Unconfined", _)) => (ProfileType::Unconfined, String::new()),
        Some(("Localhost", path)) => (ProfileType::Localhost, path.unwrap_or_default()),
        None if !supported => (ProfileType::Unconfined, String::new()),
        _ => (ProfileType::RuntimeDefault, String::new()),
    };
    pb::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

/// None: the runtime's own where it has one.
fn apparmor(profile: Option<&AppArmorProfile>) -> Option<pb::SecurityProfile> {
    use pb::security_profile::ProfileType;
    let profile = profile?;
    let (kind, localhost_ref) = match profile.type_.as_str() {
        "Unconfined" => (ProfileType::Unconfined, String::new()),
        "Localhost" => (ProfileType::Localhost, profile.localhost_profile.clone().unwrap_or_default()),
        _ => (ProfileType::RuntimeDefault, String::new()),
    };
    Some(pb::SecurityProfile { profile_type: kind.into(), localhost_ref })
}

/// Can the kernel filter system calls?
pub fn seccomp_supported() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|s| s.lines().any(|l| l.starts_with("Seccomp:")))
}

fn privileged(c: &Container) -> bool {
    c.security_context.as_ref().and_then(|s| s.privileged).unwrap_or(false)
}

/// The sandbox's own context.
pub fn sandbox(spec: &PodSpec, filters: bool) -> pb::LinuxSandboxSecurityContext {
    let pod = spec.security_context.as_ref();
    pb::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        run_as_user: integer(pod.and_then(|p| p.run_as_user)),
        run_as_group: integer(pod.and_then(|p| p.run_as_user.and(p.run_as_group))),
        supplemental_groups: groups(pod),
        privileged: spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(privileged),
        seccomp: Some(seccomp(pod.and_then(|p| p.seccomp_profile.as_ref()), filters)),
        ..Default::default()
    }
}

/// The pod's sysctls.
pub fn sysctls(spec: &PodSpec) -> HashMap<String, String> {
    let list = spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    list.map(|s| (s.name.clone(), s.value.clone())).collect()
}

/// What a container's context is made from.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Its image, for the user.
    pub image: &'a pb::Image,
    /// The container whose processes it sees (runtime id).
    pub target: Option<&'a str>,
    /// Can the kernel filter system calls?
    pub seccomp: bool,
}

/// A container's context: its own words, else the pod's.
///
/// # Errors
/// When it must not be root and would be.
pub fn container(asked: &Asked<'_>) -> Result<pb::LinuxContainerSecurityContext> {
    let (c, image) = (asked.container, asked.image);
    let spec = asked.pod.spec.clone().unwrap_or_default();
    let pod = spec.security_context.as_ref();
    let own = c.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(pod.and_then(|p| p.run_as_user));
    let group = own.run_as_group.or(pod.and_then(|p| p.run_as_group));
    if own.run_as_non_root.or(pod.and_then(|p| p.run_as_non_root)) == Some(true) {
        check_not_root(asked, user)?;
    }
    let image_uid = image.uid.as_ref().map(|u| u.value);
    let by_name = user.is_none() && image_uid.is_none() && !image.username.is_empty();
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let mut namespaces = namespaces(&spec);
    if let Some(target) = asked.target {
        namespaces.pid = pb::NamespaceMode::Target.into();
        namespaces.target_id = target.into();
    }
    let profile = own.seccomp_profile.as_ref().or(pod.and_then(|p| p.seccomp_profile.as_ref()));
    let armor = own.app_armor_profile.as_ref().or(pod.and_then(|p| p.app_armor_profile.as_ref()));
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    Ok(pb::LinuxContainerSecurityContext {
        capabilities: Some(capabilities(&own)),
        privileged,
        namespace_options: Some(namespaces),
        // A group alone needs a user beside it: the image's, or root.
        run_as_user: integer(user.or(image_uid).or(group.filter(|_| !by_name).map(|_| 0))),
        run_as_group: integer(group),
        run_as_username: if by_name { image.username.clone() } else { String::new() },
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        // Nothing is kept from a privileged container.
        seccomp: (!privileged).then(|| seccomp(profile, asked.seccomp)),
        apparmor: apparmor(armor),
    })
}

fn capabilities(own: &SecurityContext) -> pb::Capability {
    let written = own.capabilities.clone().unwrap_or_default();
    pb::Capability {
        add_capabilities: written.add.unwrap_or_default(),
        drop_capabilities: written.drop.unwrap_or_default(),
    }
}

fn check_not_root(asked: &Asked<'_>, user: Option<i64>) -> Result<()> {
    let (namespace, name, uid) = identity(asked.pod);
    let refuse = |why: &str| {
        let container = &asked.container.name;
        Err(Error::Pod(format!("{why} (pod: \"{name}_{namespace}({uid})\", container: {container})")))
    };
    let image = asked.image;
    match (user, image.uid.as_ref().map(|u| u.value), image.username.as_str()) {
        (Some(0), _, _) => refuse("container's runAsUser breaks non-root policy"),
        (Some(_), _, _) => Ok(()),
        (None, Some(0), _) | (None, None, "") => refuse("container has runAsNonRoot and image will run as root"),
        (None, Some(_), _) => Ok(()),
        (None, None, name) => refuse(&format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        )),
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
        let spec = json!({"containers": [], "securityContext": pod});
        let pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}));
        let c = serde_json::from_value(json!({"name": "c", "securityContext": own})).unwrap();
        container(&Asked { pod: &pod.unwrap(), container: &c, image: &image, target: None, seccomp: true })
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
        assert_eq!(
            made(strict(), json!({}), pb::Image::default()).unwrap_err().to_string(),
            "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"
        );
        assert!(made(strict(), json!({}), named).unwrap_err().to_string().contains("non-numeric user (app)"));
        assert!(made(strict(), json!({"runAsUser": 0}), numbered.clone()).is_err());
        assert_eq!(made(strict(), json!({}), numbered).unwrap().run_as_user.unwrap().value, 7);
    }

    #[test]
    fn system_calls_are_filtered_unless_the_pod_says_otherwise() {
        use pb::security_profile::ProfileType;
        let profile = |pod, own| made(pod, own, pb::Image::default()).unwrap().seccomp.map(|s| s.profile_type());
        let written = |kind: &str| json!({"seccompProfile": {"type": kind}});
        assert_eq!(profile(json!({}), json!({})), Some(ProfileType::RuntimeDefault));
        assert_eq!(profile(written("Unconfined"), json!({})), Some(ProfileType::Unconfined));
        assert_eq!(profile(written("Unconfined"), written("RuntimeDefault")), Some(ProfileType::RuntimeDefault));
        assert_eq!(profile(json!({}), json!({"privileged": true})), None);
        assert_eq!(seccomp(None, false).profile_type(), ProfileType::Unconfined);
    }
}
