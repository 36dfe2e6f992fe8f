//! The rules of level baseline.

use super::checks::Finding;
use super::pod::{APPARMOR, Pod, SECCOMP, SECCOMP_CONTAINER, distinct, named, quoted};
use crate::paths::{list, text};
use serde_json::Value;

/// A finding, unless there is nothing to say.
pub(super) fn finding(reason: &'static str, details: Vec<String>, joint: &str) -> Option<Finding> {
    (!details.is_empty()).then(|| Finding { reason, detail: details.join(joint) })
}

/// `container "a" must ...`, for the containers where `test` holds.
pub(super) fn containers(pod: &Pod<'_>, must: &str, test: impl Fn(&Value) -> bool) -> Vec<String> {
    let names = pod.containers_where(test);
    if names.is_empty() { Vec::new() } else { vec![format!("{} {must}", named("container", &names))] }
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Finding> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|key| pod.is(&format!("/{key}")));
    finding("host namespaces", shared.map(|key| format!("{key}=true")).collect(), ", ")
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Finding> {
    let test = |c: &Value| c.pointer("/securityContext/privileged") == Some(&Value::Bool(true));
    finding("privileged", containers(pod, "must not set securityContext.privileged=true", test), "")
}

/// What containers get anyway.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Finding> {
    finding("non-default capabilities", added_beyond(pod, &DEFAULT_CAPABILITIES), "")
}

/// `container "a" must not include "X" in securityContext.capabilities.add`.
pub(super) fn added_beyond(pod: &Pod<'_>, allowed: &[&str]) -> Vec<String> {
    let foreign = |c: &Value| -> Vec<String> {
        let added = list(c, "/securityContext/capabilities/add").iter().filter_map(Value::as_str);
        added.filter(|a| !allowed.contains(a)).map(str::to_owned).collect()
    };
    let which = distinct(pod.containers().flat_map(foreign).collect());
    let must = format!("must not include {} in securityContext.capabilities.add", quoted(which.iter()));
    containers(pod, &must, |c| !foreign(c).is_empty())
}

pub(super) fn host_paths(pod: &Pod<'_>) -> Option<Finding> {
    let of_host = |v: &&Value| v.get("hostPath").is_some_and(|p| !p.is_null());
    let names: Vec<&str> = pod.list("/volumes").iter().filter(of_host).map(|v| text(v, "/name")).collect();
    let details = if names.is_empty() { Vec::new() } else { vec![named("volume", &names)] };
    finding("hostPath volumes", details, "")
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Finding> {
    let ports = |c: &Value| -> Vec<u64> {
        let ports = list(c, "/ports").iter().filter_map(|p| p.get("hostPort")?.as_u64());
        ports.filter(|p| *p != 0).collect()
    };
    let all = distinct(pod.containers().flat_map(ports).collect());
    let names = pod.containers_where(|c| !ports(c).is_empty());
    let text = all.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if all.len() == 1 { "hostPort" } else { "hostPorts" };
    let details = if names.is_empty() {
        Vec::new()
    } else {
        vec![format!("{} {verb} {noun} {text}", named("container", &names))]
    };
    finding("hostPort", details, "")
}

/// Pointers to the hosts that probes and hooks name.
const PROBE_HOSTS: [&str; 10] = [
    "/livenessProbe/httpGet/host",
    "/livenessProbe/tcpSocket/host",
    "/readinessProbe/httpGet/host",
    "/readinessProbe/tcpSocket/host",
    "/startupProbe/httpGet/host",
    "/startupProbe/tcpSocket/host",
    "/lifecycle/postStart/httpGet/host",
    "/lifecycle/postStart/tcpSocket/host",
    "/lifecycle/preStop/httpGet/host",
    "/lifecycle/preStop/tcpSocket/host",
];

pub(super) fn probe_hosts(pod: &Pod<'_>) -> Option<Finding> {
    let hosts = |c: &Value| -> Vec<String> {
        PROBE_HOSTS.iter().map(|p| text(c, p)).filter(|h| !h.is_empty()).map(str::to_owned).collect()
    };
    let all = distinct(pod.containers().flat_map(hosts).collect());
    let names = pod.containers_where(|c| !hosts(c).is_empty());
    let verb = if names.len() == 1 { "uses" } else { "use" };
    let noun = if all.len() == 1 { "host" } else { "hosts" };
    let said = || format!("{} {verb} probe or lifecycle {noun} {}", named("container", &names), quoted(all.iter()));
    let details = if names.is_empty() { Vec::new() } else { vec![said()] };
    finding("probe or lifecycle host", details, "")
}

pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Finding> {
    let mut details = Vec::new();
    if pod.text("/securityContext/appArmorProfile/type") == "Unconfined" {
        details.push("pod must not set AppArmor profile type to \"Unconfined\"".to_owned());
    }
    let unconfined = |c: &Value| text(c, "/securityContext/appArmorProfile/type") == "Unconfined";
    details.extend(containers(pod, "must not set AppArmor profile type to \"Unconfined\"", unconfined));
    let allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let wrong: Vec<String> = pod
        .annotations(APPARMOR)
        .into_iter()
        .filter(|(_, value)| !allowed(value))
        .map(|(key, value)| format!("{key}=\"{value}\""))
        .collect();
    if !wrong.is_empty() {
        let noun = if wrong.len() == 1 { "annotation" } else { "annotations" };
        details.push(format!("{noun} {}", wrong.join(", ")));
    }
    let reason = if details.len() > 1 { "forbidden AppArmor profiles" } else { "forbidden AppArmor profile" };
    finding(reason, details, ", ")
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Finding> {
    let kind = |c: &Value| text(c, "/securityContext/procMount").to_owned();
    let wrong = |k: &String| !k.is_empty() && k != "Default";
    let kinds = distinct(pod.containers().map(kind).filter(wrong).collect());
    let must = format!("must not set securityContext.procMount to {}", quoted(kinds.iter()));
    finding("procMount", containers(pod, &must, |c| wrong(&kind(c))), "")
}

pub(super) fn se_linux(pod: &Pod<'_>) -> Option<Finding> {
    se_linux_of(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn se_linux_with_engines(pod: &Pod<'_>) -> Option<Finding> {
    se_linux_of(pod, &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
}

fn se_linux_of(pod: &Pod<'_>, types: &[&str]) -> Option<Finding> {
    let path = "/securityContext/seLinuxOptions";
    let part = |o: &Value, key: &str| text(o, &format!("{path}/{key}")).to_owned();
    let wrong = |o: &Value| {
        !types.contains(&part(o, "type").as_str()) || !part(o, "user").is_empty() || !part(o, "role").is_empty()
    };
    let holder = serde_json::json!({"securityContext": pod.at("/securityContext")});
    let names = pod.containers_where(wrong);
    let mut setters = Vec::new();
    if wrong(&holder) {
        setters.push("pod".to_owned());
    }
    if !names.is_empty() {
        setters.push(named("container", &names));
    }
    if setters.is_empty() {
        return None;
    }
    let all = || std::iter::once(&holder).chain(pod.containers());
    let bad: Vec<String> = distinct(all().map(|o| part(o, "type")).filter(|t| !types.contains(&t.as_str())).collect());
    let mut options = Vec::new();
    if !bad.is_empty() {
        options.push(format!("type{} {}", if bad.len() == 1 { "" } else { "s" }, quoted(bad.iter())));
    }
    for key in ["user", "role"] {
        if all().any(|o| !part(o, key).is_empty()) {
            options.push(format!("{key} may not be set"));
        }
    }
    let detail =
        format!("{} set forbidden securityContext.seLinuxOptions: {}", setters.join(" and "), options.join("; "));
    Some(Finding { reason: "seLinuxOptions", detail })
}

/// Before v1.19: profiles were named by annotations.
pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Finding> {
    let named = [SECCOMP, SECCOMP_CONTAINER].into_iter().flat_map(|prefix| pod.annotations(prefix));
    let wrong = named.filter(|(_, value)| *value == "unconfined").map(|(key, value)| format!("{key}=\"{value}\""));
    let wrong: Vec<String> = wrong.collect();
    let noun = if wrong.len() == 1 { "forbidden annotation" } else { "forbidden annotations" };
    let details = if wrong.is_empty() { Vec::new() } else { vec![format!("{noun} {}", wrong.join(", "))] };
    finding("seccompProfile", details, "")
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Finding> {
    finding("seccompProfile", unconfined(pod), ", ")
}

/// Where a pod or its containers ask for no seccomp profile at all.
pub(super) fn unconfined(pod: &Pod<'_>) -> Vec<String> {
    let must = "must not set securityContext.seccompProfile.type to \"Unconfined\"";
    let mut details = Vec::new();
    if pod.text("/securityContext/seccompProfile/type") == "Unconfined" {
        details.push(format!("pod {must}"));
    }
    details.extend(containers(pod, must, |c| text(c, "/securityContext/seccompProfile/type") == "Unconfined"));
    details
}

/// Sysctls that belong to the pod alone. The version that added each is in [`sysctls_v0`] and its like.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

pub(super) fn sysctls_v0(pod: &Pod<'_>) -> Option<Finding> {
    sysctls(pod, &SAFE_SYSCTLS[..5])
}

pub(super) fn sysctls_v27(pod: &Pod<'_>) -> Option<Finding> {
    sysctls(pod, &SAFE_SYSCTLS[..6])
}

pub(super) fn sysctls_v29(pod: &Pod<'_>) -> Option<Finding> {
    sysctls(pod, &SAFE_SYSCTLS[..10])
}

pub(super) fn sysctls_v32(pod: &Pod<'_>) -> Option<Finding> {
    sysctls(pod, &SAFE_SYSCTLS)
}

fn sysctls(pod: &Pod<'_>, safe: &[&str]) -> Option<Finding> {
    let names = pod.list("/securityContext/sysctls").iter().map(|s| text(s, "/name"));
    finding("forbidden sysctls", names.filter(|n| !safe.contains(n)).map(str::to_owned).collect(), ", ")
}

pub(super) fn windows_host_process(pod: &Pod<'_>) -> Option<Finding> {
    let path = "/securityContext/windowsOptions/hostProcess";
    let names = pod.containers_where(|c| c.pointer(path) == Some(&Value::Bool(true)));
    let mut setters = Vec::new();
    if pod.is(path) {
        setters.push("pod".to_owned());
    }
    if !names.is_empty() {
        setters.push(named("container", &names));
    }
    let said = || format!("{} must not set securityContext.windowsOptions.hostProcess=true", setters.join(" and "));
    let details = if setters.is_empty() { Vec::new() } else { vec![said()] };
    finding("hostProcess", details, "")
}
