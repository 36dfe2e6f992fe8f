//! KubeSchedulerConfiguration (`kubescheduler.config.k8s.io/v1`): profiles, plugins, their arguments.

mod args;
mod shape;

use crate::plugins::{PLUGINS, Row};
use crate::profile::ProfileSettings;
use crate::queue::Backoff;
use kybern_api::error::Cause;
use kybern_api::kind::Causes;
use kybern_api::validate::Field;
use serde_json::Value;
use std::time::Duration;

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
/// Beyond a day a back-off is as good as none, and may not be a time at all.
const LONGEST_BACKOFF: u64 = 24 * 3600;
/// Where a profile may name plugins. Those that are no filter, score or preemption cannot be replaced
/// here, so that nothing follows from naming them.
const POINTS: [&str; 13] = [
    "multiPoint",
    "preEnqueue",
    "queueSort",
    "preFilter",
    "filter",
    "postFilter",
    "preScore",
    "score",
    "reserve",
    "permit",
    "preBind",
    "bind",
    "postBind",
];

/// What the scheduler is set to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub(crate) profiles: Vec<ProfileSettings>,
    pub(crate) backoff: Backoff,
}

impl Default for Settings {
    fn default() -> Self {
        Self { profiles: vec![ProfileSettings::usual(crate::SCHEDULER_NAME)], backoff: Backoff::default() }
    }
}

/// A configuration that cannot be used: each cause with its field path.
#[derive(Debug, thiserror::Error)]
#[error("invalid {KIND}: {}", list(.0))]
pub struct Invalid(pub Vec<Cause>);

fn list(causes: &[Cause]) -> String {
    let each: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
    each.join("; ")
}

impl Settings {
    /// Reads a KubeSchedulerConfiguration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(config: &Value) -> Result<Self, Invalid> {
        let mut out = Causes::new();
        let root = Field::root(config);
        for (field, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            root.field(field).one_of(&[wanted], &mut out);
        }
        shape::check(&root, &shape::CONFIGURATION, &mut out);
        root.field("percentageOfNodesToScore").in_range(0..=100, &mut out);
        let backoff = backoff(&root, &mut out);
        let extenders = root.field("extenders");
        if !extenders.is_empty() {
            extenders.forbidden("extenders are not supported", &mut out);
        }
        let mut profiles: Vec<ProfileSettings> = Vec::new();
        for field in root.field("profiles").items() {
            let profile = profile(&field, &root, &mut out);
            if profiles.iter().any(|p| p.name == profile.name) {
                field.field("schedulerName").duplicate(&mut out);
            }
            profiles.push(profile);
        }
        if profiles.is_empty() {
            profiles = Self::default().profiles;
            profiles.iter_mut().for_each(|p| p.percentage = percentage(&root, 0));
        }
        if out.is_empty() { Ok(Self { profiles, backoff }) } else { Err(Invalid(out)) }
    }
}

fn backoff(root: &Field<'_, '_>, out: &mut Causes) -> Backoff {
    let usual = Backoff::default();
    let mut seconds = |name: &str, usual: Duration| {
        let field = root.field(name);
        match field.int() {
            None => usual,
            Some(n) if n > 0 => Duration::from_secs(n.unsigned_abs().min(LONGEST_BACKOFF)),
            Some(_) => {
                field.invalid("must be greater than 0", out);
                usual
            }
        }
    };
    let first = seconds("podInitialBackoffSeconds", usual.first);
    let longest = seconds("podMaxBackoffSeconds", usual.longest);
    if longest < first {
        root.field("podMaxBackoffSeconds").invalid("must be greater than or equal to podInitialBackoffSeconds", out);
    }
    Backoff { first, longest }
}

fn percentage(field: &Field<'_, '_>, usual: usize) -> usize {
    field.field("percentageOfNodesToScore").int().and_then(|n| n.try_into().ok()).unwrap_or(usual)
}

fn profile(field: &Field<'_, '_>, root: &Field<'_, '_>, out: &mut Causes) -> ProfileSettings {
    let name = field.field("schedulerName");
    let mut settings = ProfileSettings::usual(if name.set() { name.text() } else { crate::SCHEDULER_NAME });
    field.field("percentageOfNodesToScore").in_range(0..=100, out);
    settings.percentage = percentage(field, percentage(root, 0));
    let plugins = field.field("plugins");
    for point in POINTS {
        known_plugins(&plugins.field(point), out);
    }
    let multi = Selection::of(&plugins.field("multiPoint"));
    let filters = Selection::of(&plugins.field("filter"));
    let scores = Selection::of(&plugins.field("score"));
    settings.filters = choose(&multi, &filters, |p| p.filter.is_some()).into_iter().map(|(p, _)| p.name).collect();
    settings.scores = choose(&multi, &scores, |p| p.score.is_some()).into_iter().map(|(p, w)| (p.name, w)).collect();
    let after = Selection::of(&plugins.field("postFilter"));
    settings.preempts = choose(&multi, &after, |p| p.name == "DefaultPreemption").into_iter().next().is_some();
    args::read(&field.field("pluginConfig"), &mut settings, out);
    settings
}

/// What a profile says about one extension point.
struct Selection<'v> {
    /// With weights; 0: none given.
    enabled: Vec<(&'v str, i64)>,
    disabled: Vec<&'v str>,
}

impl<'v> Selection<'v> {
    fn of(point: &Field<'_, 'v>) -> Self {
        let enabled = point.field("enabled");
        let disabled = point.field("disabled");
        Self {
            enabled: enabled.items().map(|p| (p.field("name").text(), p.field("weight").int().unwrap_or(0))).collect(),
            disabled: disabled.items().map(|p| p.field("name").text()).collect(),
        }
    }
    fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|d| *d == name || *d == "*")
    }
    fn weight(&self, name: &str) -> Option<i64> {
        self.enabled.iter().find(|(n, _)| *n == name).map(|(_, w)| (*w).max(1))
    }
}

/// The plugins of an extension point: those that the point itself enables first, then those that are
/// enabled everywhere, unless they are disabled here.
fn choose(multi: &Selection<'_>, point: &Selection<'_>, fits: impl Fn(&Row) -> bool) -> Vec<(&'static Row, i64)> {
    let find = |name: &str| PLUGINS.iter().find(|p| p.name == name).filter(|p| fits(p));
    let mut chosen: Vec<(&'static Row, i64)> = Vec::new();
    for (name, _) in &point.enabled {
        chosen.extend(find(name).map(|p| (p, point.weight(name).unwrap_or(1))));
    }
    let usual = PLUGINS.iter().filter(|p| fits(p) && !multi.disables(p.name));
    let usual = usual.map(|p| (p, multi.weight(p.name).unwrap_or(p.weight)));
    let added = multi.enabled.iter().filter_map(|(name, _)| Some((find(name)?, multi.weight(name)?)));
    for (plugin, weight) in usual.chain(added) {
        if !point.disables(plugin.name) && !chosen.iter().any(|(p, _)| p.name == plugin.name) {
            chosen.push((plugin, weight));
        }
    }
    chosen
}

fn known_plugins(point: &Field<'_, '_>, out: &mut Causes) {
    let known = |name: &str| PLUGINS.iter().any(|p| p.name == name);
    let enabled = point.field("enabled");
    for plugin in enabled.items() {
        let name = plugin.field("name");
        if name.demand(out) && !known(name.text()) {
            name.not_found(out);
        }
        plugin.field("weight").not_negative(out);
    }
    let disabled = point.field("disabled");
    for plugin in disabled.items() {
        let name = plugin.field("name");
        if name.demand(out) && name.text() != "*" && !known(name.text()) {
            name.not_found(out);
        }
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
