//! Requests and limits: of a container, of a pod, as the kernel takes them.

use super::hugepages;
use super::ledger::Demand;
use super::spec::{self, Role};
use crate::cgroup::{self, Limits, Qos};
use k8s_openapi::api::core::v1::{Container, Pod};
use kybern_api::meta::quantity::Quantity;
use kybern_wire::cri as pb;
use std::collections::BTreeMap;
use std::str::FromStr;

/// oom_score_adj of a guaranteed pod's containers: the last to be killed.
const OOM_GUARANTEED: i64 = -997;
/// And of those that ask for nothing: the first.
const OOM_BEST_EFFORT: i64 = 1000;

/// A container's limit.
pub fn limit(container: &Container, name: &str) -> Option<Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get(name).and_then(|q| Quantity::from_str(&q.0).ok())
}

/// A container's request; its limit where it requests nothing.
pub fn request(container: &Container, name: &str) -> Option<Quantity> {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    requests.and_then(|r| r.get(name)).and_then(|q| Quantity::from_str(&q.0).ok()).or_else(|| limit(container, name))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
}

/// What a pod requests: CPU in millicores and memory in bytes. Its own word where it has one, else its
/// containers' together, or the most that its start needs; and its overhead.
pub fn requests(pod: &Pod) -> (i64, i64) {
    let Some(spec) = &pod.spec else { return (0, 0) };
    let overhead =
        |name: &str| spec.overhead.as_ref().and_then(|o| o.get(name)).and_then(|q| Quantity::from_str(&q.0).ok());
    let of = |name: &str| -> Quantity {
        let own = spec.resources.as_ref().and_then(|r| r.requests.as_ref()?.get(name)).and_then(|q| q.0.parse().ok());
        let asked = |c: &Container| request(c, name).unwrap_or(Quantity::ZERO);
        let mut running = Quantity::ZERO;
        let mut most = Quantity::ZERO;
        for (c, role) in spec::declared(spec) {
            match role {
                Role::Init => most = most.max(running + asked(c)),
                _ => running = running + asked(c),
            }
        }
        own.unwrap_or_else(|| running.max(most)) + overhead(name).unwrap_or(Quantity::ZERO)
    };
    (of("cpu").milli(), of("memory").value())
}

/// The pod's class, as its status says or its spec implies.
pub fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => return Qos::Guaranteed,
        Some("Burstable") => return Qos::Burstable,
        Some("BestEffort") => return Qos::BestEffort,
        _ => {}
    }
    let nonzero = |q: Option<Quantity>| q.is_some_and(|q| !q.is_zero());
    let asks = |c: &Container| ["cpu", "memory"].iter().any(|r| nonzero(request(c, r)) || nonzero(limit(c, r)));
    let fixed = |c: &Container| ["cpu", "memory"].iter().all(|r| nonzero(limit(c, r)) && request(c, r) == limit(c, r));
    if !containers(pod).any(asks) {
        Qos::BestEffort
    } else if containers(pod).all(fixed) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// Limits of the pod's own cgroup: its own word, else what its containers have together, where all of
/// them have some; and its overhead. Of huge pages of the sizes `huge` it gets what it requests, and no more.
pub fn pod_limits(pod: &Pod, huge: &[i64]) -> Limits {
    let Some(spec) = &pod.spec else { return Limits::default() };
    let overhead = |name: &str| {
        let q = spec.overhead.as_ref().and_then(|o| o.get(name)).and_then(|q| Quantity::from_str(&q.0).ok());
        q.unwrap_or(Quantity::ZERO)
    };
    let own = |name: &str| -> Option<Quantity> {
        spec.resources.as_ref()?.limits.as_ref()?.get(name).and_then(|q| q.0.parse().ok())
    };
    let all = |name: &str| -> Option<Quantity> {
        let limited =
            |wanted: Role| spec::declared(spec).filter(move |(_, role)| *role == wanted).map(|(c, _)| limit(c, name));
        let sum = limited(Role::Main).chain(limited(Role::Sidecar)).sum::<OptionalSum>().0?;
        let most = limited(Role::Init).collect::<Option<Vec<_>>>()?.into_iter().max();
        Some(most.map_or(sum, |m| sum.max(m)))
    };
    let limit_of = |name: &str| own(name).or_else(|| all(name)).map(|q| q + overhead(name));
    Limits {
        shares: Some(cgroup::shares(requests(pod).0)),
        quota: limit_of("cpu").map(|q| cgroup::quota(q.milli())),
        memory: limit_of("memory").map(Quantity::value),
        huge: huge_pages(huge, |name| Demand::of(pod).amount(name)),
    }
}

/// Bytes of huge pages by the kernel's name of their size; none is as good as zero.
fn huge_pages(sizes: &[i64], of: impl Fn(&str) -> i64) -> BTreeMap<String, i64> {
    sizes.iter().map(|size| (hugepages::kernel_name(*size), of(&hugepages::resource(*size)))).collect()
}

/// A sum that is none as soon as one part is.
struct OptionalSum(Option<Quantity>);

impl std::iter::Sum<Option<Quantity>> for OptionalSum {
    fn sum<I: Iterator<Item = Option<Quantity>>>(parts: I) -> Self {
        Self(parts.into_iter().try_fold(Quantity::ZERO, |sum, part| part.map(|p| sum + p)))
    }
}

/// What of the node a container's resources depend on.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// Memory in bytes.
    pub memory: i64,
    /// Sizes of huge pages whose use can be limited.
    pub huge: &'a [i64],
}

/// A container's resources as CRI takes them.
pub fn linux(container: &Container, qos: Qos, machine: Machine<'_>) -> pb::LinuxContainerResources {
    let huge = huge_pages(machine.huge, |name| request(container, name).map_or(0, Quantity::value));
    let huge = huge
        .into_iter()
        .map(|(page_size, limit)| pb::HugepageLimit { page_size, limit: u64::try_from(limit).unwrap_or(0) });
    let requested = request(container, "cpu").map_or(0, Quantity::milli);
    let quota = limit(container, "cpu").filter(|q| !q.is_zero()).map(|q| cgroup::quota(q.milli()));
    pb::LinuxContainerResources {
        cpu_shares: cgroup::shares(requested),
        cpu_period: if quota.is_some() { cgroup::CPU_PERIOD } else { 0 },
        cpu_quota: quota.unwrap_or(0),
        memory_limit_in_bytes: limit(container, "memory").map_or(0, Quantity::value),
        oom_score_adj: oom_score(container, qos, machine.memory),
        hugepage_limits: huge.collect(),
        ..Default::default()
    }
}

/// Between the classes, a container is the safer the more of the node's memory it requested.
fn oom_score(container: &Container, qos: Qos, capacity: i64) -> i64 {
    match qos {
        Qos::Guaranteed => OOM_GUARANTEED,
        Qos::BestEffort => OOM_BEST_EFFORT,
        Qos::Burstable => {
            let requested = request(container, "memory").map_or(0, Quantity::value);
            let share = i128::from(requested) * 1000 / i128::from(capacity.max(1));
            (1000 - i64::try_from(share).unwrap_or(1000)).clamp(1000 + OOM_GUARANTEED, OOM_BEST_EFFORT - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn classes() {
        let of = |c| qos(&pod(c));
        assert_eq!(of(json!([{"name": "a"}])), Qos::BestEffort);
        assert_eq!(of(json!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}])), Qos::Burstable);
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        assert_eq!(of(json!([{"name": "a", "resources": full}])), Qos::Guaranteed);
        assert_eq!(of(json!([{"name": "a", "resources": full}, {"name": "b"}])), Qos::Burstable);
    }

    #[test]
    fn a_pod_is_limited_when_all_its_containers_are() {
        let half = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
        let both = pod_limits(&pod(json!([{"name": "a", "resources": half}, {"name": "b", "resources": half}])), &[]);
        assert_eq!((both.quota, both.memory), (Some(100_000), Some(128 << 20)));
        let one = pod_limits(&pod(json!([{"name": "a", "resources": half}, {"name": "b"}])), &[]);
        assert_eq!((one.quota, one.memory), (None, None));
        assert_eq!(one.shares, Some(512));
    }

    #[test]
    fn a_pod_requests_what_runs_together_or_what_its_start_needs() {
        let of = |spec: serde_json::Value| {
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            requests(&pod).0
        };
        let c = |name: &str, cpu: &str, more: serde_json::Value| {
            let mut c = json!({"name": name, "resources": {"requests": {"cpu": cpu}}});
            c.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            c
        };
        let (plain, sidecar) = (json!({}), json!({"restartPolicy": "Always"}));
        let mains = json!([c("a", "1", plain.clone()), c("b", "1", plain.clone())]);
        assert_eq!(of(json!({"containers": mains, "overhead": {"cpu": "100m"}})), 2100);
        let init = json!([c("s", "500m", sidecar), c("i", "2", plain)]);
        assert_eq!(of(json!({"containers": mains, "initContainers": init})), 2500);
        assert_eq!(of(json!({"containers": mains, "resources": {"requests": {"cpu": "3"}}})), 3000);
    }

    #[test]
    fn huge_pages_are_limited_to_what_is_asked_for() {
        let two = json!({"requests": {"hugepages-2Mi": "4Mi"}, "limits": {"hugepages-2Mi": "4Mi"}});
        let both = pod(json!([{"name": "a", "resources": two}, {"name": "b", "resources": two}, {"name": "c"}]));
        let sizes = [2 << 20, 1 << 30];
        assert_eq!(pod_limits(&both, &sizes).huge, [("2MB".to_owned(), 8 << 20), ("1GB".to_owned(), 0)].into());
        let machine = Machine { memory: 1 << 30, huge: &sizes };
        let of = |c: usize| {
            let made = linux(&both.spec.as_ref().unwrap().containers[c], Qos::Burstable, machine);
            made.hugepage_limits.into_iter().map(|l| (l.page_size, l.limit)).collect::<Vec<_>>()
        };
        assert_eq!(of(0), [("1GB".to_owned(), 0), ("2MB".to_owned(), 4 << 20)]);
        assert_eq!(of(2), [("1GB".to_owned(), 0), ("2MB".to_owned(), 0)]);
    }

    #[test]
    fn oom_scores_follow_requests() {
        let burst = pod(json!([{"name": "a", "resources": {"requests": {"memory": "1Gi"}}}]));
        let c = &burst.spec.unwrap().containers[0];
        assert_eq!(oom_score(c, Qos::Burstable, 4 << 30), 750);
        assert_eq!(oom_score(c, Qos::Burstable, 1 << 30), 3);
        assert_eq!(oom_score(c, Qos::Guaranteed, 1 << 30), -997);
    }
}
