//! Pods whose victims are going: nobody of lower priority may take the room meanwhile.

use crate::pod::PodInfo;
use smol_str::SmolStr;
use std::collections::HashMap;
use std::sync::Arc;

/// Nominated pods by node.
#[derive(Debug, Default)]
pub(crate) struct Nominations {
    by_node: HashMap<SmolStr, Vec<Arc<PodInfo>>>,
    nodes: HashMap<SmolStr, SmolStr>,
}

impl Nominations {
    /// A pod is to have room on a node.
    pub(crate) fn put(&mut self, pod: Arc<PodInfo>, node: SmolStr) {
        self.remove(&pod.uid);
        self.nodes.insert(pod.uid.clone(), node.clone());
        self.by_node.entry(node).or_default().push(pod);
    }
    /// A pod needs no room any more.
    pub(crate) fn remove(&mut self, uid: &str) {
        let Some(node) = self.nodes.remove(uid) else { return };
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|p| p.uid != uid);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }
    /// The node that a pod is to have.
    pub(crate) fn node_of(&self, uid: &str) -> Option<&SmolStr> {
        self.nodes.get(uid)
    }
    /// Is nobody nominated?
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
    /// The pods that come to a node and are at least as important as `pod`.
    pub(crate) fn ahead_of<'a>(&'a self, pod: &'a PodInfo, node: &str) -> impl Iterator<Item = &'a Arc<PodInfo>> {
        self.on(node).iter().filter(|p| p.priority >= pod.priority && p.uid != pod.uid)
    }
    /// The pods that come to a node.
    pub(crate) fn on(&self, node: &str) -> &[Arc<PodInfo>] {
        self.by_node.get(node).map_or(&[], Vec::as_slice)
    }
}
