//! What the scheduler needs of a node.

use crate::pod::requests::{Amounts, amounts};
use k8s_openapi::api::core::v1::Taint;
use kybern_api::object::Object;
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap};

/// A node as the scheduler sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NodeInfo {
    pub(crate) name: SmolStr,
    pub(crate) labels: Vec<(SmolStr, SmolStr)>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Amounts,
    /// Bytes of the images it has, by name.
    pub(crate) images: HashMap<SmolStr, i64>,
}

#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    taints: Vec<Taint>,
    unschedulable: bool,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    allocatable: BTreeMap<SmolStr, Value>,
    images: Vec<Image>,
}
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    names: Vec<SmolStr>,
    size_bytes: i64,
}

impl NodeInfo {
    /// Reads a node.
    pub(crate) fn read(object: &Object) -> Result<Self, serde_json::Error> {
        let Parts { spec, status } = object.view()?;
        let images = status.images.into_iter().flat_map(|i| i.names.into_iter().map(move |n| (n, i.size_bytes)));
        Ok(Self {
            name: object.head.name.clone(),
            labels: object.head.labels.clone(),
            taints: spec.taints,
            unschedulable: spec.unschedulable,
            allocatable: amounts(&status.allocatable),
            images: images.collect(),
        })
    }
    /// A label's value.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
    /// The taints that keep pods away.
    pub(crate) fn strict_taints(&self) -> impl Iterator<Item = &Taint> {
        self.taints.iter().filter(|t| t.effect == "NoSchedule" || t.effect == "NoExecute")
    }
    /// The taints that only make a node less liked.
    pub(crate) fn mild_taints(&self) -> impl Iterator<Item = &Taint> {
        self.taints.iter().filter(|t| t.effect == "PreferNoSchedule")
    }
    /// Do both stand alike towards labels and taints, on which counts per topology rest?
    pub(crate) fn stands_like(&self, other: &Self) -> bool {
        self.labels == other.labels && self.taints == other.taints
    }
}
