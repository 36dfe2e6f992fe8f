//! Requests must fit into what a node has left; how full it would be is rated by a strategy.

use super::allocation::{Weighed, shares};
use crate::framework::{Events, Filter, Happening, Normalize, Prepared, Reason, Score, ScoreFn};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::pod::requests::{Amounts, PODS};
use crate::snapshot::{Column, Snapshot};
use smol_str::SmolStr;

/// How fullness is rated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Strategy {
    /// The emptier the better.
    Least,
    /// The fuller the better.
    Most,
    /// By a shape: percent of use, rating of 0 to 100.
    Ratio(Vec<(i64, i64)>),
}

/// The plugin's configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FitArgs {
    pub(crate) strategy: Strategy,
    pub(crate) resources: Vec<Weighed>,
    /// Extended resources that are not looked at, by name and by what stands before the slash.
    pub(crate) ignored: Vec<SmolStr>,
    pub(crate) ignored_groups: Vec<SmolStr>,
}

impl Default for FitArgs {
    fn default() -> Self {
        let (ignored, ignored_groups) = (Vec::new(), Vec::new());
        Self { strategy: Strategy::Least, resources: Weighed::usual(), ignored, ignored_groups }
    }
}

pub(super) struct ResourcesFit {
    pub(super) args: FitArgs,
}

impl ResourcesFit {
    fn counts(&self, resource: &SmolStr) -> bool {
        let group = resource.split_once('/').map(|(group, _)| group);
        let ignored = self.args.ignored.contains(resource)
            || group.is_some_and(|g| self.args.ignored_groups.iter().any(|i| i == g));
        !(ignored && super::allocation::is_extended(resource))
    }
}

/// One resource that the pod asks for.
struct Ask<'a> {
    name: &'a SmolStr,
    column: Option<&'a Column>,
    amount: i64,
    reason: Reason,
}

impl Filter for ResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }
    fn events(&self) -> Events {
        Events::NODES.and(Events::POD_GONE).and(Events::POD_CHANGED)
    }
    fn helps(&self, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        let wants = |name: &SmolStr| pod.requests.contains_key(name);
        let could_fit = |node: &NodeInfo| {
            let offers = |name: &SmolStr| node.allocatable.get(name).copied().unwrap_or(0);
            pod.requests.iter().all(|(name, amount)| !self.counts(name) || offers(name) >= *amount)
        };
        let more = |old: &Amounts, new: &Amounts| {
            new.iter().any(|(name, n)| wants(name) && old.get(name).is_none_or(|was| n > was))
        };
        match happening {
            Happening::NodeAdded(node) => could_fit(node),
            Happening::NodeChanged(old, node) => more(&old.allocatable, &node.allocatable) && could_fit(node),
            Happening::PodGone(gone) => gone.requests.keys().any(wants),
            Happening::PodChanged(old, new) => more(&new.requests, &old.requests),
            _ => false,
        }
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Prepared<'a> {
        let ask = |(name, amount): (&'a SmolStr, &i64)| {
            let reason = if name == PODS { "Too many pods".into() } else { format!("Insufficient {name}").into() };
            Ask { name, column: snapshot.column(name), amount: *amount, reason }
        };
        let asks: Vec<Ask<'a>> = pod.requests.iter().filter(|(name, _)| self.counts(name)).map(ask).collect();
        Prepared::test(move |slot, what_if, refusal| {
            for ask in &asks {
                let (allocatable, used) = ask.column.map_or((0, 0), |c| (c.allocatable[slot], c.used(slot)));
                let used = if what_if.is_nothing() { used } else { used.saturating_add(what_if.delta(ask.name)) };
                if ask.amount <= allocatable.saturating_sub(used) {
                    continue;
                }
                if ask.amount > allocatable && ask.name != PODS {
                    refusal.for_good(ask.reason.clone());
                } else {
                    refusal.for_now(ask.reason.clone());
                }
            }
        })
    }
}

impl Score for ResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }
    fn normalize(&self) -> Normalize {
        Normalize::AsIs
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        let shares = shares(pod, snapshot, &self.args.resources, true);
        let strategy = &self.args.strategy;
        Some(Box::new(move |slot| {
            let (mut sum, mut weights) = (0, 0);
            for share in &shares {
                let Some((used, allocatable)) = share.on(snapshot, slot) else { continue };
                let rating = strategy.rate(used, allocatable);
                // Where the shape rates nothing, a resource does not pull the others down.
                if rating > 0 || !matches!(strategy, Strategy::Ratio(_)) {
                    sum += rating * share.weight;
                    weights += share.weight;
                }
            }
            strategy.mean(sum, weights)
        }))
    }
}

impl Strategy {
    fn rate(&self, used: i64, allocatable: i64) -> i64 {
        match self {
            Self::Least if used > allocatable => 0,
            Self::Least => (allocatable - used) * 100 / allocatable,
            Self::Most => used.min(allocatable) * 100 / allocatable,
            Self::Ratio(shape) => broken_line(shape, if used > allocatable { 100 } else { used * 100 / allocatable }),
        }
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a rating of 0 to 100")]
    fn mean(&self, sum: i64, weights: i64) -> i64 {
        match self {
            _ if weights == 0 => 0,
            Self::Least | Self::Most => sum / weights,
            Self::Ratio(_) => (sum as f64 / weights as f64).round() as i64,
        }
    }
}

/// Straight lines between the points of a shape.
fn broken_line(shape: &[(i64, i64)], at: i64) -> i64 {
    let Some(next) = shape.iter().position(|(x, _)| at <= *x) else { return shape.last().map_or(0, |(_, y)| *y) };
    let (x1, y1) = shape[next];
    match next.checked_sub(1).map(|i| shape[i]) {
        None => y1,
        Some((x0, y0)) => y0 + (y1 - y0) * (at - x0) / (x1 - x0),
    }
}
