//! The arguments of plugins.

use super::shape;
use crate::plugins::{AffinityArgs, FitArgs, Strategy, Weighed};
use crate::pod::spec::SpreadPart;
use crate::profile::ProfileSettings;
use kybern_api::kind::Causes;
use kybern_api::validate::Field;
use std::time::Duration;

/// Reads `pluginConfig`.
pub(super) fn read(config: &Field<'_, '_>, settings: &mut ProfileSettings, out: &mut Causes) {
    let mut names = Vec::new();
    for item in config.items() {
        let name = item.field("name");
        if !name.demand(out) {
            continue;
        }
        if names.contains(&name.text()) {
            name.duplicate(out);
        }
        names.push(name.text());
        let Some(shape) = shape::arguments(name.text()) else {
            name.invalid("no such plugin takes arguments", out);
            continue;
        };
        let args = item.field("args");
        shape::check(&args, &shape, out);
        let kind = format!("{}Args", name.text());
        args.field("kind").optional_one_of(&[&kind], out);
        args.field("apiVersion").optional_one_of(&[super::API_VERSION], out);
        one(name.text(), &args, settings, out);
    }
}

fn one(plugin: &str, args: &Field<'_, '_>, settings: &mut ProfileSettings, out: &mut Causes) {
    match plugin {
        "NodeResourcesFit" => settings.args.fit = fit(args, out),
        "NodeResourcesBalancedAllocation" => {
            let resources = args.field("resources");
            for weight in resources.items().filter(|r| r.field("weight").int().is_some_and(|w| w != 1)) {
                weight.field("weight").invalid("must be 1", out);
            }
            settings.args.balanced = resources_of(&resources, out);
        }
        "InterPodAffinity" => {
            let weight = args.field("hardPodAffinityWeight");
            weight.in_range(0..=100, out);
            settings.args.affinity = AffinityArgs {
                hard_weight: weight.int().unwrap_or(1),
                ignore_placed_wishes: args.field("ignorePreferredTermsOfExistingPods").flag(),
            };
        }
        "PodTopologySpread" => settings.args.spread = spread(args, out),
        "NodeAffinity" => {
            let added = args.field("addedAffinity");
            match serde_json::from_value(added.value.clone()) {
                Ok(affinity) => settings.args.added_affinity = affinity,
                Err(e) => added.invalid(&e.to_string(), out),
            }
        }
        "VolumeBinding" => {
            let seconds = args.field("bindTimeoutSeconds");
            seconds.not_negative(out);
            if let Some(n) = seconds.int() {
                settings.bind_timeout = Duration::from_secs(n.unsigned_abs().min(super::LONGEST_BACKOFF));
            }
        }
        _ => {
            let percentage = args.field("minCandidateNodesPercentage");
            percentage.in_range(0..=100, out);
            let absolute = args.field("minCandidateNodesAbsolute");
            absolute.not_negative(out);
            let usual = settings.preemption;
            let or = |f: &Field<'_, '_>, usual| f.int().and_then(|n| n.try_into().ok()).unwrap_or(usual);
            settings.preemption.percentage = or(&percentage, usual.percentage);
            settings.preemption.absolute = or(&absolute, usual.absolute);
            if settings.preemption.percentage == 0 && settings.preemption.absolute == 0 {
                absolute.invalid("cannot be 0 together with minCandidateNodesPercentage", out);
            }
        }
    }
}

fn resources_of(list: &Field<'_, '_>, out: &mut Causes) -> Vec<Weighed> {
    let mut resources: Vec<Weighed> = Vec::new();
    for item in list.items() {
        let name = item.field("name");
        name.demand(out);
        if resources.iter().any(|r| r.resource == name.text()) {
            name.duplicate(out);
        }
        let weight = item.field("weight");
        weight.in_range(1..=100, out);
        resources.push(Weighed { resource: name.text().into(), weight: weight.int().unwrap_or(1) });
    }
    if resources.is_empty() { Weighed::usual() } else { resources }
}

fn fit(args: &Field<'_, '_>, out: &mut Causes) -> FitArgs {
    let texts = |name| args.field(name).items().map(|i| i.text().into()).collect();
    let groups = args.field("ignoredResourceGroups");
    for group in groups.items().filter(|g| g.text().contains('/')) {
        group.invalid("resource group name can't contain '/'", out);
    }
    let strategy = args.field("scoringStrategy");
    let kind = strategy.field("type");
    kind.optional_one_of(&["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"], out);
    let chosen = match kind.text() {
        "MostAllocated" => Strategy::Most,
        "RequestedToCapacityRatio" => Strategy::Ratio(ratio(&strategy, out)),
        _ => Strategy::Least,
    };
    FitArgs {
        strategy: chosen,
        resources: resources_of(&strategy.field("resources"), out),
        ignored: texts("ignoredResources"),
        ignored_groups: texts("ignoredResourceGroups"),
    }
}

/// The points of a shape, ratings brought from 0..=10 to 0..=100.
fn ratio(strategy: &Field<'_, '_>, out: &mut Causes) -> Vec<(i64, i64)> {
    let ratio = strategy.field("requestedToCapacityRatio");
    let shape = ratio.field("shape");
    if shape.is_empty() {
        shape.required("at least one point must be specified", out);
    }
    let mut points: Vec<(i64, i64)> = Vec::new();
    for point in shape.items() {
        let (at, score) = (point.field("utilization"), point.field("score"));
        at.in_range(0..=100, out);
        score.in_range(0..=10, out);
        let next = at.int().unwrap_or(0);
        if points.last().is_some_and(|(last, _)| next <= *last) {
            at.invalid("utilization values must be sorted in increasing order", out);
        }
        points.push((next, score.int().unwrap_or(0) * 10));
    }
    points
}

fn spread(args: &Field<'_, '_>, out: &mut Causes) -> Option<Vec<SpreadPart>> {
    let kind = args.field("defaultingType");
    kind.optional_one_of(&["List", "System"], out);
    let constraints = args.field("defaultConstraints");
    if kind.text() != "List" {
        if !constraints.is_empty() {
            constraints.invalid("when .defaultingType is System, .defaultConstraints must be empty", out);
        }
        return None;
    }
    let mut parts = Vec::new();
    for item in constraints.items() {
        if item.field("labelSelector").present() {
            item.field("labelSelector")
                .forbidden("constraint must not define a selector, as they deduced for each pod", out);
        }
        item.field("topologyKey").demand(out);
        item.field("whenUnsatisfiable").one_of(&["DoNotSchedule", "ScheduleAnyway"], out);
        if item.field("maxSkew").int().is_none_or(|n| n <= 0) {
            item.field("maxSkew").invalid("not in valid range 1 to 2147483647", out);
        }
        match serde_json::from_value(item.value.clone()) {
            Ok(part) => parts.push(part),
            Err(e) => item.invalid(&e.to_string(), out),
        }
    }
    Some(parts)
}
