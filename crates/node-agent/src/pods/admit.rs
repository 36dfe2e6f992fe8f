//! Pods that this node cannot run as they are written: refused before anything of them starts.

use super::ledger::{self, Amounts, Demand};
use super::status::Ending;
use super::{resources, spec};
use crate::node::guard::CRITICAL;
use crate::node::pressure::{self, Pressure};
use crate::volumes;
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use kybern_api::placement::{NO_EXECUTE, attracts, untolerated};

/// What the node and its runtime can do, as far as a pod may ask for it.
#[derive(Debug, Clone, Default)]
pub struct Abilities {
    /// AppArmor profiles are enforced.
    pub apparmor: bool,
    /// Containers can have user namespaces of their own.
    pub user_namespaces: bool,
    /// `supplementalGroupsPolicy: Strict` is honoured.
    pub strict_groups: bool,
    /// Images can be mounted as volumes.
    pub image_volumes: bool,
    /// Sysctls that pods may set although they are not safe, `*` at the end of a name for all below it.
    pub unsafe_sysctls: Vec<String>,
}

impl Abilities {
    /// What a runtime can do, as its version says. Nothing is expected of one that is not known.
    #[must_use]
    pub fn of_runtime(self, name: &str, version: &str) -> Self {
        let mut parts =
            version.trim_start_matches('v').split(['.', '-', '~', '+']).map_while(|p| p.parse::<u32>().ok());
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        let since = match name {
            "containerd" => (2, 1),
            "cri-o" => (1, 33),
            _ => return self,
        };
        Self { image_volumes: version >= since, ..self }
    }
}

/// The taint of a node that is short of memory.
const MEMORY_TAINT: &str = "node.kubernetes.io/memory-pressure";

/// Sysctls that belong to a pod's own namespaces and harm nobody else.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Why the node does not take the pod; None: it does. The message is the event's; the status says
/// before it that the pod was rejected.
pub fn refusal(pod: &Pod, abilities: &Abilities) -> Option<Ending> {
    let spec = pod.spec.as_ref()?;
    let refused = |reason: &str, message: String| Some(Ending { reason: reason.into(), message, ..Ending::default() });
    if let Some(message) = forbidden_sysctl(spec, abilities) {
        return refused("SysctlForbidden", message);
    }
    if !abilities.apparmor && asks_for_apparmor(spec) {
        return refused("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host".into());
    }
    let context = spec.security_context.as_ref();
    if !abilities.strict_groups && context.and_then(|c| c.supplemental_groups_policy.as_deref()) == Some("Strict") {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node".into();
        return refused("SupplementalGroupsPolicyNotSupported", message);
    }
    if !abilities.user_namespaces && spec.host_users == Some(false) {
        let message = "can't set `spec.hostUsers: false`: the runtime does not support user namespaces".into();
        return refused("UserNamespacesNotSupported", message);
    }
    let image = spec.volumes.iter().flatten().find(|v| v.image.is_some() && !abilities.image_volumes);
    let image = image.map(|v| (v.name.clone(), "image".to_owned()));
    if let Some((volume, kind)) = image.or_else(|| volumes::unsupported(pod)) {
        let message = format!("volume {volume:?} is of kind {kind}, which this node does not support");
        return refused("UnsupportedVolume", message);
    }
    None
}

/// How the node stands when a pod comes.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// The machine is going down.
    pub leaving: bool,
    /// What runs short.
    pub pressures: &'a [Pressure],
}

/// Why the node does not take the pod now; another node, or a later time, may be better.
pub fn untimely(pod: &Pod, now: &Now<'_>) -> Option<Ending> {
    let refused = |reason: &str, message: String| {
        Some(Ending { reason: reason.into(), message, disruption: true, ..Ending::default() })
    };
    if now.leaving {
        return refused("NodeShutdown", "Pod was rejected as the node is shutting down.".into());
    }
    let spec = pod.spec.as_ref()?;
    let critical = spec.priority.unwrap_or(0) >= CRITICAL;
    let tolerates = spec.tolerations.iter().flatten().any(|t| {
        let key = t.key.as_deref().unwrap_or_default();
        key == MEMORY_TAINT || key.is_empty() && t.operator.as_deref() == Some("Exists")
    });
    if pressure::admits(now.pressures, resources::qos(pod), critical, tolerates) {
        return None;
    }
    let names: Vec<&str> = now.pressures.iter().map(|p| p.as_str()).collect();
    refused("Evicted", format!("The node had condition: [{}]. ", names.join(" ")))
}

/// The node that a pod is measured against.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its object, once the API has shown it.
    pub node: Option<&'a Node>,
    /// What it has for pods.
    pub allocatable: &'a Amounts,
    /// What its other pods hold.
    pub others: &'a [&'a Demand],
}

/// Why the pod does not fit this node, whoever sent it here. Static pods are the node's own: its taints
/// are not for them.
pub fn misfit(pod: &Pod, demand: &Demand, place: &Place<'_>, is_static: bool) -> Option<Ending> {
    let spec = pod.spec.as_ref()?;
    let refused = |reason: String, message: String| Some(Ending { reason, message, ..Ending::default() });
    let failed =
        |predicate: &str, why: &str| refused(predicate.to_owned(), format!("Predicate {predicate} failed: {why}"));
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS".to_owned();
        return refused("PodOSNotSupported".into(), message);
    }
    if let Some(lack) = ledger::lacks(demand, place.others, place.allocatable).next() {
        let ledger::Lack { resource, requested, used, capacity } = lack;
        let message = format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        return refused(format!("OutOf{resource}"), message);
    }
    let label = |key: &str| place.node?.metadata.labels.as_ref()?.get(key).map(String::as_str);
    if place.node.is_some() && !attracts(spec, place.name, label) {
        return failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    if ledger::port_taken(demand, place.others) {
        return failed("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    let taints = place.node.and_then(|n| n.spec.as_ref()?.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    if !is_static && untolerated(taints, tolerations, &[NO_EXECUTE]).is_some() {
        return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    None
}

fn forbidden_sysctl(spec: &PodSpec, abilities: &Abilities) -> Option<String> {
    let yes = |o: Option<bool>| o.unwrap_or(false);
    for sysctl in spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten()) {
        // Both separators are in use; the kernel takes either.
        let name = sysctl.name.replace('/', ".");
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        };
        if !SAFE_SYSCTLS.contains(&name.as_str()) && !abilities.unsafe_sysctls.iter().any(matches) {
            return Some(format!("forbidden sysctl: {:?} not allowlisted", sysctl.name));
        }
        if name.starts_with("net.") && yes(spec.host_network) {
            return Some(format!("forbidden sysctl: {:?} not allowed with host net enabled", sysctl.name));
        }
        let of_ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|p| name.starts_with(p));
        if of_ipc && yes(spec.host_ipc) {
            return Some(format!("forbidden sysctl: {:?} not allowed with host ipc enabled", sysctl.name));
        }
    }
    None
}

fn asks_for_apparmor(spec: &PodSpec) -> bool {
    let of_pod = spec.security_context.iter().filter_map(|c| c.app_armor_profile.as_ref());
    let containers = spec::declared(spec).filter_map(|(c, _)| c.security_context.as_ref()?.app_armor_profile.as_ref());
    of_pod.chain(containers).any(|profile| profile.type_ != "Unconfined")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_node_lacks_is_refused_with_kubernetes_reasons() {
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        let with = |mut a: serde_json::Value, b: serde_json::Value| {
            a.as_object_mut().unwrap().extend(b.as_object().unwrap().clone());
            a
        };
        let host_net = with(sysctl("net.ipv4.tcp_syncookies"), json!({"hostNetwork": true}));
        let host_ipc = with(sysctl("kernel.shm_rmid_forced"), json!({"hostIPC": true}));
        let apparmor = json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
        let cases = [
            (json!({}), "", ""),
            (sysctl("net.ipv4.tcp_syncookies"), "", ""),
            (sysctl("kernel.msgmax"), "", ""),
            (sysctl("kernel.panic"), "SysctlForbidden", "forbidden sysctl: \"kernel.panic\" not allowlisted"),
            (
                host_net,
                "SysctlForbidden",
                "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled",
            ),
            (
                host_ipc,
                "SysctlForbidden",
                "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled",
            ),
            (apparmor, "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"),
            (json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}), "", ""),
            (
                json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}}),
                "SupplementalGroupsPolicyNotSupported",
                "SupplementalGroupsPolicy=Strict is not supported in this node",
            ),
            (
                json!({"hostUsers": false}),
                "UserNamespacesNotSupported",
                "can't set `spec.hostUsers: false`: the runtime does not support user namespaces",
            ),
            (json!({"hostUsers": true}), "", ""),
            (
                json!({"volumes": [{"name": "v", "image": {"reference": "x"}}]}),
                "UnsupportedVolume",
                "volume \"v\" is of kind image, which this node does not support",
            ),
        ];
        let abilities = Abilities { unsafe_sysctls: vec!["kernel.msg*".into()], ..Abilities::default() };
        for (spec, reason, message) in cases {
            let spec = with(spec, json!({"containers": []}));
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            let ending = refusal(&pod, &abilities).unwrap_or_default();
            assert_eq!((ending.reason.as_str(), ending.message.as_str()), (reason, message), "{pod:?}");
        }
    }

    #[test]
    fn a_runtime_is_known_by_its_version() {
        let can = |name: &str, version: &str| Abilities::default().of_runtime(name, version).image_volumes;
        assert!(!can("containerd", "1.6.20~ds1") && !can("containerd", "v2.0.5") && !can("containerd", ""));
        assert!(can("containerd", "v2.1.0-rc.1") && can("containerd", "10.0.0") && can("cri-o", "1.33.1"));
        assert!(!can("other", "99.0"));
    }

    #[test]
    fn a_pod_that_does_not_fit_is_refused_as_kubelet_does() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "k", "effect": "NoExecute"}, {"key": "later", "effect": "NoSchedule"}]},
        }))
        .unwrap();
        let tolerant = json!([{"key": "k", "operator": "Exists"}]);
        let pod = |spec: serde_json::Value| -> Pod {
            let mut all = json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 80}],
                "resources": {"requests": {"cpu": "1"}}}], "tolerations": tolerant});
            all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            serde_json::from_value(json!({"metadata": {}, "spec": all})).unwrap()
        };
        let held = Demand::of(&pod(json!({})));
        let said = |spec: serde_json::Value, cpu: i64, others: &[&Demand], is_static: bool| {
            let pod = pod(spec);
            let allocatable = [("cpu", cpu), (ledger::PODS, 9)].map(|(k, v)| (k.to_owned(), v)).into();
            let place = Place { name: "n1", node: Some(&node), allocatable: &allocatable, others };
            let ending = misfit(&pod, &Demand::of(&pod), &place, is_static).unwrap_or_default();
            (ending.reason, ending.message)
        };
        let refused = |reason: &str, message: &str| (reason.to_owned(), message.to_owned());
        assert_eq!(said(json!({}), 1000, &[], false), refused("", ""));
        let lack = "Node didn't have enough resource: cpu, requested: 1000, used: 1000, capacity: 1500";
        assert_eq!(said(json!({}), 1500, &[&held], false), refused("OutOfcpu", lack));
        let ports = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        assert_eq!(said(json!({}), 2000, &[&held], false), refused("NodePorts", ports));
        let affinity = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        assert_eq!(said(json!({"nodeSelector": {"disk": "hdd"}}), 2000, &[], false), refused("NodeAffinity", affinity));
        assert_eq!(said(json!({"nodeSelector": {"disk": "ssd"}}), 2000, &[], false), refused("", ""));
        let taints = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        assert_eq!(said(json!({"tolerations": []}), 2000, &[], false), refused("TaintToleration", taints));
        assert_eq!(said(json!({"tolerations": []}), 2000, &[], true), refused("", ""));
        assert_eq!(said(json!({"os": {"name": "windows"}}), 2000, &[], false).0, "PodOSNotSupported");
    }

    #[test]
    fn a_node_under_pressure_takes_only_some() {
        let pod =
            |spec: serde_json::Value| -> Pod { serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap() };
        let best_effort = pod(json!({"containers": [{"name": "a"}]}));
        let said =
            |pod: &Pod, leaving, pressures: &[Pressure]| untimely(pod, &Now { leaving, pressures }).map(|e| e.reason);
        assert_eq!(said(&best_effort, false, &[]), None);
        assert_eq!(said(&best_effort, true, &[]).as_deref(), Some("NodeShutdown"));
        let memory = untimely(&best_effort, &Now { leaving: false, pressures: &[Pressure::Memory] }).unwrap();
        assert_eq!(
            (memory.reason.as_str(), memory.message.as_str()),
            ("Evicted", "The node had condition: [MemoryPressure]. ")
        );
        let asks = pod(json!({"containers": [{"name": "a", "resources": {"requests": {"memory": "1Mi"}}}]}));
        assert_eq!(said(&asks, false, &[Pressure::Memory]), None);
        assert_eq!(said(&asks, false, &[Pressure::Disk]).as_deref(), Some("Evicted"));
        let critical = pod(json!({"priority": 2_000_000_001, "containers": [{"name": "a"}]}));
        assert_eq!(said(&critical, false, &[Pressure::Disk]), None);
    }
}
