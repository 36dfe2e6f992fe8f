//! What pods use.

use super::{Amounts, Scope, add, amounts};
use crate::meta::quantity::Quantity;
use crate::tree;
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};

/// Named short, for requests, and with `requests.` and `limits.` before them.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What every container must state where a quota bounds it.
const STATED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// What a pod uses besides its place in the count of objects: nothing once it has ended.
pub fn usage(pod: &Value) -> Amounts {
    if matches!(tree::text(pod, "status.phase"), "Succeeded" | "Failed") {
        return Amounts::new();
    }
    let empty = Value::Null;
    let spec = pod.get("spec").unwrap_or(&empty);
    let mut used = named(&total(spec, "requests"), &total(spec, "limits"));
    used.insert("pods".into(), Quantity::from_int(1));
    used
}

/// Requests and limits under the names that quotas use.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let short = COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-");
        if short {
            used.insert(name.clone(), *amount);
        }
        if short || is_extended(name) {
            used.insert(format_smolstr!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str())) {
        used.insert(format_smolstr!("limits.{name}"), *amount);
    }
    used
}

fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

/// What a pod needs at its peak: all containers and sidecars together, or an init container beside
/// the sidecars started before it; amounts of the pod as a whole win; overhead comes on top.
pub fn total(spec: &Value, list: &str) -> Amounts {
    let own = |c: &Value| amounts(c.get("resources").and_then(|r| r.get(list)));
    let mut sum = Amounts::new();
    tree::list(spec, "containers").iter().for_each(|c| add(&mut sum, &own(c)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for init in tree::list(spec, "initContainers") {
        if tree::text(init, "restartPolicy") == "Always" {
            add(&mut sidecars, &own(init));
            raise(&mut peak, &sidecars);
        } else {
            let mut beside = sidecars.clone();
            add(&mut beside, &own(init));
            raise(&mut peak, &beside);
        }
    }
    add(&mut sum, &sidecars);
    raise(&mut sum, &peak);
    sum.extend(own(spec));
    let mut overhead = amounts(spec.get("overhead"));
    if list == "limits" {
        // Where nothing is limited, the overhead limits nothing either.
        overhead.retain(|name, _| sum.get(name).is_some_and(|a| !a.is_zero()));
    }
    add(&mut sum, &overhead);
    sum
}

fn raise(to: &mut Amounts, at_least: &Amounts) {
    for (name, amount) in at_least {
        let most = to.get(name).map_or(*amount, |have| (*have).max(*amount));
        to.insert(name.clone(), most);
    }
}

/// Is the pod in a scope that only pods have? `class` is its quality of service.
pub fn in_scope(pod: &Value, class: &str, scope: &Scope) -> bool {
    let ends = || tree::int(pod, "spec.activeDeadlineSeconds").is_some_and(|s| s >= 0);
    match scope.name.as_str() {
        "Terminating" => ends(),
        "NotTerminating" => !ends(),
        "BestEffort" => class == "BestEffort",
        "NotBestEffort" => class != "BestEffort",
        "PriorityClass" => scope.admits(tree::text(pod, "spec.priorityClassName")),
        "CrossNamespacePodAffinity" => looks_across_namespaces(pod),
        _ => false,
    }
}

/// Does a term of its pod (anti-)affinity name other namespaces?
fn looks_across_namespaces(pod: &Value) -> bool {
    let across = |term: &Value| {
        !tree::list(term, "namespaces").is_empty() || term.get("namespaceSelector").is_some_and(|s| !s.is_null())
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let path = |list: &str| format!("spec.affinity.{kind}.{list}DuringSchedulingIgnoredDuringExecution");
        let preferred = tree::list(pod, &path("preferred")).iter().filter_map(|p| p.get("podAffinityTerm"));
        tree::list(pod, &path("required")).iter().chain(preferred).any(across)
    })
}

/// What the containers leave unsaid although a quota bounds it: `must specify limits.cpu for: c`.
pub fn unsaid<'a>(pod: &Value, bounded: impl Iterator<Item = &'a SmolStr>) -> Option<String> {
    // Amounts of the pod as a whole speak for its containers.
    let whole =
        named(&amounts(tree::at(pod, "spec.resources.requests")), &amounts(tree::at(pod, "spec.resources.limits")));
    let containers = || tree::list(pod, "spec.containers").iter().chain(tree::list(pod, "spec.initContainers"));
    let mut missing = Vec::new();
    for name in bounded.filter(|n| STATED.contains(&n.as_str()) && !whole.contains_key(*n)) {
        let says = |c: &Value| {
            let own = |list| amounts(c.get("resources").and_then(|r| r.get(list)));
            named(&own("requests"), &own("limits")).contains_key(name)
        };
        let mut silent: Vec<&str> = containers().filter(|c| !says(c)).map(|c| tree::text(c, "name")).collect();
        silent.sort_unstable();
        silent.dedup();
        if !silent.is_empty() {
            missing.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    (!missing.is_empty()).then(|| format!("must specify {}", missing.join("; ")))
}
