//! The decision without IO: a snapshot that is filled by hand. For measurements and comparisons.

use crate::cycle::{Decision, Nomination, decide};
use crate::driver::draw;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::profile::{Profile, ProfileSettings};
use crate::snapshot::Snapshot;
use kybern_api::object::Object;
use smol_str::SmolStr;
use std::sync::Arc;

/// A pod that has been read.
#[derive(Debug, Clone)]
pub struct TrialPod(Arc<PodInfo>);

impl TrialPod {
    /// Reads a pod.
    ///
    /// # Errors
    /// When the object is no pod.
    pub fn read(object: &Object) -> Result<Self, serde_json::Error> {
        PodInfo::read(object).map(|p| Self(Arc::new(p)))
    }
}

/// What a decision comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The pod goes to this node.
    Place(String),
    /// Once so many pods are gone, it goes to this node.
    Preempt(String, usize),
    /// No node will do, and why.
    Refuse(String),
}

/// A cluster to decide on.
pub struct Trial {
    snapshot: Snapshot,
    profile: Profile,
    random: u64,
}

impl Trial {
    /// An empty cluster; `seed` begins the random numbers.
    pub fn new(seed: u64) -> Self {
        let profile = Profile::new(&ProfileSettings::usual(crate::SCHEDULER_NAME));
        Self { snapshot: Snapshot::default(), profile, random: seed | 1 }
    }
    /// Adds a node.
    ///
    /// # Errors
    /// When the object is no node.
    pub fn add_node(&mut self, object: &Object) -> Result<(), serde_json::Error> {
        self.snapshot.set_node(NodeInfo::read(object)?);
        Ok(())
    }
    /// Puts a pod onto a node.
    pub fn place(&mut self, pod: &TrialPod, node: &str) {
        self.snapshot.place(Arc::clone(&pod.0), &SmolStr::new(node), false);
    }
    /// Takes a pod off its node.
    pub fn remove(&mut self, pod: &TrialPod) {
        self.snapshot.displace(&pod.0.uid);
    }
    /// Decides.
    pub fn decide(&mut self, pod: &TrialPod) -> Verdict {
        let random = &mut self.random;
        match decide(&pod.0, &self.profile, &mut self.snapshot, &mut |below| draw(random, below)) {
            Decision::Place(node) => Verdict::Place(node.to_string()),
            Decision::Refuse(refused) => match refused.nomination {
                Nomination::Node(node, victims) => Verdict::Preempt(node.to_string(), victims.len()),
                Nomination::Keep | Nomination::Clear => Verdict::Refuse(refused.message),
            },
        }
    }
}
