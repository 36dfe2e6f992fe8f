//! Room for a critical pod: which others have to go for it. Pure.

use super::ledger::{self, Amounts, Demand, Rank};
use super::status::Ending;
use crate::cgroup::Qos;

/// A pod of the node: its uid and what it holds.
pub type Other<'a> = (&'a str, &'a Demand);

/// The pods that must end so that this one fits; None when that helps nothing. As few as can be of those
/// whose class promises them most.
pub fn victims<'a>(demand: &Demand, others: &[Other<'a>], allocatable: &Amounts) -> Option<Vec<&'a str>> {
    let held: Vec<&Demand> = others.iter().map(|(_, d)| *d).collect();
    let missing: Missing = ledger::lacks(demand, &held, allocatable)
        .map(|l| (l.resource, l.requested.saturating_add(l.used).saturating_sub(l.capacity)))
        .collect();
    let of = |qos: Qos| -> Vec<Other<'a>> {
        others.iter().filter(|(_, d)| d.rank.qos == qos && yields(demand.rank, d.rank)).copied().collect()
    };
    let (best_effort, burstable, guaranteed) = (of(Qos::BestEffort), of(Qos::Burstable), of(Qos::Guaranteed));
    // Of each class only what the classes below it, as a whole, cannot give.
    let guaranteed = nearest(guaranteed, less(&less(&missing, &best_effort), &burstable))?;
    let burstable = nearest(burstable, less(&less(&missing, &best_effort), &guaranteed))?;
    let best_effort = nearest(best_effort, less(&less(&missing, &burstable), &guaranteed))?;
    Some([best_effort, burstable, guaranteed].concat().into_iter().map(|(uid, _)| uid).collect())
}

/// How a pod ends that had to go for another.
pub fn ending() -> Ending {
    Ending {
        reason: "Preempting".into(),
        message: "Preempted in order to admit critical pod".into(),
        grace: None,
        disruption: true,
    }
}

/// What is missing, by resource.
type Missing = Vec<(String, i64)>;

/// Must a pod make room for another?
fn yields(to: Rank, pod: Rank) -> bool {
    to.critical && !pod.critical || to.priority > pod.priority
}

fn less(missing: &Missing, without: &[Other<'_>]) -> Missing {
    let rest = |(resource, amount): &(String, i64)| {
        let freed = ledger::sum(without.iter().map(|(_, d)| *d), resource);
        (resource.clone(), amount.saturating_sub(freed))
    };
    missing.iter().map(rest).filter(|(_, amount)| *amount > 0).collect()
}

/// Takes pods, each time the one that comes nearest to what is missing, until nothing is.
fn nearest<'a>(mut pods: Vec<Other<'a>>, mut missing: Missing) -> Option<Vec<Other<'a>>> {
    let mut taken = Vec::new();
    while !missing.is_empty() {
        let key = |(_, d): &Other<'_>| (distance(&missing, d), d.amount("memory"), d.amount("cpu"));
        let best = (0..pods.len()).min_by(|a, b| {
            let ((x, xm, xc), (y, ym, yc)) = (key(&pods[*a]), key(&pods[*b]));
            x.total_cmp(&y).then(xm.cmp(&ym)).then(xc.cmp(&yc))
        })?;
        let chosen = pods.swap_remove(best);
        missing = less(&missing, &[chosen]);
        taken.push(chosen);
    }
    Some(taken)
}

/// How far a pod's end is from giving all that is missing: the squares of the missing shares.
fn distance(missing: &Missing, demand: &Demand) -> f64 {
    let share = |(resource, amount): &(String, i64)| {
        let rest = amount.saturating_sub(demand.amount(resource)).max(0);
        // Only compared with one another: a rounded share does as well.
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits than a float has")]
        let share = rest as f64 / *amount as f64;
        share * share
    };
    missing.iter().map(share).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn demand(cpu: &str, qos: &str, priority: i32) -> Demand {
        let c = json!({"name": "a", "resources": {"requests": {"cpu": cpu}}});
        let pod =
            json!({"metadata": {}, "spec": {"containers": [c], "priority": priority}, "status": {"qosClass": qos}});
        Demand::of(&serde_json::from_value(pod).unwrap())
    }
    const CRITICAL: i32 = 2_000_000_000;

    fn chosen(cpu: &str, priority: i32, others: &[(&str, Demand)]) -> Option<Vec<String>> {
        let others: Vec<Other<'_>> = others.iter().map(|(uid, d)| (*uid, d)).collect();
        let node = [("cpu", 4000), (ledger::PODS, 10)].map(|(k, v)| (k.to_owned(), v)).into();
        let found = victims(&demand(cpu, "Burstable", priority), &others, &node)?;
        Some(found.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn as_few_as_can_be_go_and_the_least_promised_first() {
        let others = [
            ("small", demand("500m", "Burstable", 0)),
            ("large", demand("1500m", "Burstable", 0)),
            ("sure", demand("1500m", "Guaranteed", 0)),
            ("vital", demand("500m", "Burstable", CRITICAL)),
        ];
        let of = |cpu: &str| chosen(cpu, CRITICAL, &others);
        assert_eq!(of("500m").unwrap(), ["small"]);
        assert_eq!(of("1").unwrap(), ["large"], "one large pod rather than two");
        assert_eq!(of("1800m").unwrap(), ["large", "small"]);
        assert_eq!(of("3").unwrap(), ["large", "sure"], "a guaranteed one only for what the others lack");
        assert_eq!(of("3800m"), None, "critical pods stay");
        assert_eq!(chosen("500m", 0, &others), None, "an ordinary pod is no reason");
        assert_eq!(chosen("500m", 5, &others).unwrap(), ["small"], "a pod of higher priority is");
    }
}
