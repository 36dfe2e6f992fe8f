//! A profile: the plugins that decide about the pods of one `schedulerName`.

use crate::framework::{Events, Filter, Happening, Score};
use crate::plugins::{PLUGINS, PluginArgs, default_topologies};
use crate::pod::PodInfo;
use crate::preempt::PreemptionArgs;
use smol_str::SmolStr;
use std::collections::HashMap;

/// With fewer nodes than this all are looked at.
const ALWAYS: usize = 100;

/// The filters that refused a pod, by their place in the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Refusers(u32);

impl Refusers {
    /// There was no node at all.
    pub(crate) const NO_NODES: Self = Self(1 << 31);

    /// One more.
    pub(crate) fn add(&mut self, filter: usize) {
        self.0 |= 1 << filter;
    }
    fn has(self, filter: usize) -> bool {
        self.0 & (1 << filter) != 0
    }
}

/// Which plugins a profile has, and how they are set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProfileSettings {
    pub(crate) name: SmolStr,
    pub(crate) filters: Vec<&'static str>,
    /// With weights.
    pub(crate) scores: Vec<(&'static str, i64)>,
    pub(crate) preempts: bool,
    pub(crate) args: PluginArgs,
    pub(crate) preemption: PreemptionArgs,
    /// Of how many nodes in a hundred enough is enough; 0: by the size of the cluster.
    pub(crate) percentage: usize,
    /// How long a binding waits for volumes.
    pub(crate) bind_timeout: std::time::Duration,
}

impl ProfileSettings {
    /// All plugins with their own weights.
    pub(crate) fn usual(name: &str) -> Self {
        Self {
            name: name.into(),
            filters: PLUGINS.iter().filter(|p| p.filter.is_some()).map(|p| p.name).collect(),
            scores: PLUGINS.iter().filter(|p| p.score.is_some()).map(|p| (p.name, p.weight)).collect(),
            preempts: true,
            args: PluginArgs::default(),
            preemption: PreemptionArgs::default(),
            percentage: 0,
            bind_timeout: std::time::Duration::from_secs(600),
        }
    }
}

/// A profile, ready for decisions.
pub(crate) struct Profile {
    pub(crate) filters: Vec<Box<dyn Filter>>,
    pub(crate) scores: Vec<(Box<dyn Score>, i64)>,
    /// None: its pods drive nobody away.
    pub(crate) preemption: Option<PreemptionArgs>,
    /// Topologies of the default spread constraints.
    pub(crate) topologies: Vec<SmolStr>,
    pub(crate) bind_timeout: std::time::Duration,
    percentage: usize,
}

impl Profile {
    /// Makes the plugins.
    pub(crate) fn new(settings: &ProfileSettings) -> Self {
        let find = |name: &str| PLUGINS.iter().find(|p| p.name == name);
        let args = &settings.args;
        let filters = settings.filters.iter().filter_map(|n| Some(find(n)?.filter?(args)));
        let scores = settings.scores.iter().filter_map(|(n, weight)| Some((find(n)?.score?(args), *weight)));
        Self {
            filters: filters.collect(),
            scores: scores.collect(),
            preemption: settings.preempts.then_some(settings.preemption),
            topologies: default_topologies(args.spread.as_deref()),
            bind_timeout: settings.bind_timeout,
            percentage: settings.percentage,
        }
    }
    /// How many nodes that fit are enough among `nodes`.
    pub(crate) fn enough(&self, nodes: usize) -> usize {
        if nodes < ALWAYS {
            return nodes;
        }
        let percentage = match self.percentage {
            0 => 50_usize.saturating_sub(nodes / 125).max(5),
            given => given,
        };
        (nodes * percentage / 100).max(ALWAYS)
    }
    /// May this happening help a pod that these filters refused?
    pub(crate) fn helps(&self, refusers: Refusers, pod: &PodInfo, happening: &Happening<'_>) -> bool {
        let mut asked = self.filters.iter().enumerate().filter(|(i, _)| refusers.has(*i)).map(|(_, f)| f);
        self.concerns(refusers, happening.kind())
            && (refusers == Refusers::NO_NODES
                || asked.any(|f| f.events().meets(happening.kind()) && f.helps(pod, happening)))
    }
    /// Is a kind of happening of any interest to pods that these filters refused?
    pub(crate) fn concerns(&self, refusers: Refusers, kind: Events) -> bool {
        if refusers == Refusers::NO_NODES {
            return kind.meets(Events::NODE_ADDED);
        }
        self.filters.iter().enumerate().any(|(i, f)| refusers.has(i) && f.events().meets(kind))
    }
}

/// Profiles by `schedulerName`.
pub(crate) type Profiles = HashMap<SmolStr, Profile>;
