//! The spec of a pod or of a template.

use super::container::{self, Role, container};
use super::field::{Field, Unique};
use super::{ip, probes, profiles, scheduling, volumes};
use crate::kind::Causes;
use crate::meta::names;

/// Longest active deadline in seconds.
const DEADLINE_MAX: i64 = i32::MAX as i64;
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

/// Checks a pod spec by itself; what may not change is [`super::pod_update()`]'s.
pub fn pod_spec(spec: &Field<'_, '_>, out: &mut Causes) {
    containers(spec, out);
    spec.field("restartPolicy").one_of(&["Always", "Never", "OnFailure"], out);
    let deadline = spec.field("activeDeadlineSeconds");
    deadline.in_range(1..=DEADLINE_MAX, out);
    dns(spec, out);
    identity(spec, out);
    host(spec, out);
    scheduling::scheduling(spec, out);
    security(&spec.field("securityContext"), out);
    for gate in spec.field("readinessGates").items() {
        let condition = gate.field("conditionType");
        condition.invalid_each(names::qualified_name(condition.text()), out);
    }
    gates(spec, out);
}

fn containers(spec: &Field<'_, '_>, out: &mut Causes) {
    let volume_list = spec.field("volumes");
    let volumes = volumes::volumes(&volume_list, out);
    let host_network = spec.field("hostNetwork").flag();
    let regular = spec.field("containers");
    if regular.is_empty() {
        regular.required("", out);
    }
    let (mut names, mut host_ports) = (Unique::default(), Vec::new());
    let lists =
        [("initContainers", Role::Init), ("containers", Role::Regular), ("ephemeralContainers", Role::Ephemeral)];
    for (list, role) in lists {
        let list = spec.field(list);
        for c in list.items() {
            container(&c, role, host_network, &volumes, out);
            probes::stop_signal(&c, spec.field("os").field("name").text(), out);
            names.check(&c.field("name"), out);
            if role == Role::Regular || c.field("restartPolicy").text() == "Always" {
                check_host_ports(&c, &mut host_ports, out);
            }
        }
    }
}

/// A host port is taken once: by protocol, address and number.
fn check_host_ports<'v>(c: &Field<'_, 'v>, seen: &mut Vec<(&'v str, &'v str, i64)>, out: &mut Causes) {
    for port in c.field("ports").items() {
        let host = port.field("hostPort");
        let Some(number) = host.int().filter(|n| *n != 0) else { continue };
        let taken = (port.field("protocol").text(), port.field("hostIP").text(), number);
        if seen.contains(&taken) {
            host.duplicate(out);
        }
        seen.push(taken);
    }
}

fn dns(spec: &Field<'_, '_>, out: &mut Causes) {
    let policy = spec.field("dnsPolicy");
    policy.one_of(&["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"], out);
    let config = spec.field("dnsConfig");
    let (servers, searches) = (config.field("nameservers"), config.field("searches"));
    if policy.text() == "None" && servers.is_empty() {
        servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None", out);
    }
    if servers.len() > NAMESERVERS_MAX {
        servers.too_many(NAMESERVERS_MAX, out);
    }
    if searches.len() > SEARCHES_MAX {
        searches.too_many(SEARCHES_MAX, out);
    }
    for server in servers.items() {
        ip(&server, out);
    }
    for option in config.field("options").items() {
        option.field("name").demand(out);
    }
    for alias in spec.field("hostAliases").items() {
        ip(&alias.field("ip"), out);
        for hostname in alias.field("hostnames").items() {
            hostname.invalid_each(names::subdomain(hostname.text()), out);
        }
    }
}

fn identity(spec: &Field<'_, '_>, out: &mut Causes) {
    for key in ["serviceAccountName", "priorityClassName", "runtimeClassName", "schedulerName"] {
        spec.field(key).optional(names::subdomain, out);
    }
    for key in ["hostname", "subdomain"] {
        spec.field(key).optional(names::label, out);
    }
    let os = spec.field("os");
    if os.present() {
        os.field("name").one_of(&["linux", "windows"], out);
    }
    spec.field("preemptionPolicy").optional_one_of(&["Never", "PreemptLowerPriority"], out);
}

fn host(spec: &Field<'_, '_>, out: &mut Causes) {
    let shared = spec.field("shareProcessNamespace");
    if shared.flag() && spec.field("hostPID").flag() {
        shared.invalid("ShareProcessNamespace and HostPID cannot both be enabled", out);
    }
    if *spec.field("hostUsers").value == false {
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            if spec.field(key).flag() {
                spec.field(key).forbidden("when `hostUsers` is false", out);
            }
        }
    }
}

fn security(context: &Field<'_, '_>, out: &mut Causes) {
    container::ids(context, out);
    for group in context.field("supplementalGroups").items() {
        group.in_range(0..=i64::from(i32::MAX), out);
    }
    context.field("fsGroupChangePolicy").optional_one_of(&["Always", "OnRootMismatch"], out);
    profiles::sysctls(&context.field("sysctls"), out);
}

/// A pod behind a gate has no node yet.
fn gates(spec: &Field<'_, '_>, out: &mut Causes) {
    let gates = spec.field("schedulingGates");
    let mut names = Unique::default();
    for gate in gates.items() {
        gate.field("name").checked(names::qualified_name, out);
        names.check(&gate.field("name"), out);
    }
    if !gates.is_empty() && spec.field("nodeName").set() {
        spec.field("nodeName").forbidden("cannot be set until all schedulingGates have been cleared", out);
    }
}
