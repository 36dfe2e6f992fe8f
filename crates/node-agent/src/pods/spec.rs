//! A pod's containers by role, and what its policies say of them.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use std::borrow::Cow;

/// Annotation of the API's picture of a static pod: the static pod's uid.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the others start.
    Init,
    /// Starts among the init containers and runs beside the others (restartPolicy Always).
    Sidecar,
    /// The pod's work.
    Main,
    /// Put into a running pod, for debugging; never restarted.
    Ephemeral,
}

/// Does this init container run beside the others?
pub fn is_sidecar(c: &Container) -> bool {
    c.restart_policy.as_deref() == Some("Always")
}

/// The role of an init container.
pub fn init_role(c: &Container) -> Role {
    if is_sidecar(c) { Role::Sidecar } else { Role::Init }
}

/// Every container that is declared from the start, with its role, in the order they start.
pub fn declared(spec: &PodSpec) -> impl Iterator<Item = (&Container, Role)> {
    let init = spec.init_containers.iter().flatten().map(|c| (c, init_role(c)));
    init.chain(spec.containers.iter().map(|c| (c, Role::Main)))
}

/// Names of the sidecars, in the order they start.
pub fn sidecars(spec: &PodSpec) -> Vec<&str> {
    declared(spec).filter(|(_, role)| *role == Role::Sidecar).map(|(c, _)| c.name.as_str()).collect()
}

/// The ephemeral containers as ordinary ones.
pub fn ephemeral(spec: &PodSpec) -> impl Iterator<Item = Container> {
    spec.ephemeral_containers.iter().flatten().map(ordinary)
}

/// A container by name, whatever its role.
pub fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<(Cow<'a, Container>, Role)> {
    let declared = declared(spec).find(|(c, _)| c.name == name).map(|(c, role)| (Cow::Borrowed(c), role));
    declared.or_else(|| {
        let mut all = spec.ephemeral_containers.iter().flatten();
        all.find(|c| c.name == name).map(|c| (Cow::Owned(ordinary(c)), Role::Ephemeral))
    })
}

/// The container whose processes an ephemeral one wants to see.
pub fn debugged<'a>(spec: &'a PodSpec, ephemeral: &str) -> Option<&'a str> {
    let found = spec.ephemeral_containers.iter().flatten().find(|c| c.name == ephemeral)?;
    found.target_container_name.as_deref().filter(|n| !n.is_empty())
}

/// Of an ephemeral container, what a container can have too.
fn ordinary(e: &EphemeralContainer) -> Container {
    let e = e.clone();
    Container {
        name: e.name,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        command: e.command,
        args: e.args,
        working_dir: e.working_dir,
        env: e.env,
        env_from: e.env_from,
        resources: e.resources,
        security_context: e.security_context,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        tty: e.tty,
        volume_mounts: e.volume_mounts,
        volume_devices: e.volume_devices,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        ..Container::default()
    }
}

/// Is a container started again that ended so? A rule for the exit code goes before the container's own
/// policy, and that before the pod's.
pub fn restarts(pod: &Pod, c: &Container, role: Role, exit_code: i32) -> bool {
    match role {
        Role::Ephemeral => return false,
        Role::Sidecar => return true,
        Role::Init if exit_code == 0 => return false,
        Role::Init | Role::Main => {}
    }
    let applies = |operator: &str, values: &[i32]| match operator {
        "In" => values.contains(&exit_code),
        "NotIn" => !values.contains(&exit_code),
        _ => false,
    };
    let by_rule = c.restart_policy_rules.iter().flatten().any(|rule| {
        let codes = rule.exit_codes.as_ref();
        rule.action == "Restart"
            && codes.is_some_and(|codes| applies(&codes.operator, codes.values.as_deref().unwrap_or_default()))
    });
    by_rule || by_policy(c.restart_policy.as_deref().unwrap_or_else(|| policy(pod)), exit_code)
}

fn by_policy(policy: &str, exit_code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// The pod's restartPolicy.
fn policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_go_before_policies() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [], "restartPolicy": "Never"}}))
                .unwrap();
        let with = |more: serde_json::Value| -> Container {
            let mut c = json!({"name": "c"});
            c.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(c).unwrap()
        };
        let ruled = with(
            json!({"restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}),
        );
        let own = with(json!({"restartPolicy": "OnFailure"}));
        for (c, role, code, again) in [
            (&with(json!({})), Role::Main, 1, false),
            (&ruled, Role::Main, 42, true),
            (&ruled, Role::Main, 1, false),
            (&own, Role::Main, 1, true),
            (&own, Role::Main, 0, false),
            (&own, Role::Init, 0, false),
            (&own, Role::Ephemeral, 1, false),
            (&with(json!({"restartPolicy": "Always"})), Role::Sidecar, 0, true),
        ] {
            assert_eq!(restarts(&pod, c, role, code), again, "{c:?} {role:?} {code}");
        }
    }

    #[test]
    fn an_ephemeral_container_is_found_by_its_name() {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}],
            "ephemeralContainers": [{"name": "d", "image": "x", "targetContainerName": "a", "tty": true}],
        }))
        .unwrap();
        let (found, role) = find(&spec, "d").unwrap();
        assert_eq!((found.image.as_deref(), found.tty, role), (Some("x"), Some(true), Role::Ephemeral));
        assert_eq!((debugged(&spec, "d"), debugged(&spec, "a")), (Some("a"), None));
        assert_eq!(find(&spec, "s").unwrap().1, Role::Sidecar);
        assert!(find(&spec, "x").is_none());
    }
}
