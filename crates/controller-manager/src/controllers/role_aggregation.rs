//! Fills cluster roles that are defined as the union of others (`aggregationRule`).

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kybern_api::meta::selector::Selector;
use kybern_client::store::{Delta, Item};
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Plan, change};
use kybern_reconcile::view::{View, World, decode};
use std::sync::Arc;

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "clusterrole-aggregation-controller",
        watches: vec![Watch::mapped::<ClusterRole>(aggregated)],
        // Escalate: it hands out rules it does not hold itself.
        writes: vec![Access::to::<ClusterRole>(&["escalate", "get", "list", "patch", "update", "watch"])],
        seeds: Vec::new(),
        workers: 1,
        plan: Arc::new(plan),
    }
}

/// Any role may be part of any aggregated one; those are few.
fn aggregated(_: &Delta, view: &View) -> Vec<Key> {
    let aggregates = |i: &&Item| decode::<ClusterRole>(i).is_ok_and(|r| r.aggregation_rule.is_some());
    view.of::<ClusterRole>().iter().filter(aggregates).map(Key::of).collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(role) = world.view.find::<ClusterRole>("", &key.name)? else { return Ok(plan) };
    let Some(selectors) = role.aggregation_rule.as_ref().map(|a| a.cluster_role_selectors.clone().unwrap_or_default())
    else {
        return Ok(plan);
    };
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in &selectors {
        let tree = typed::tree(selector).map_err(Error::Encode)?;
        let selector = Selector::from_object(Some(&tree)).map_err(Error::Invalid)?;
        let parts = world.view.of::<ClusterRole>().iter().filter(|i| i.object.head.name != key.name);
        for part in parts.filter(|i| selector.matches(&*i.object.head)) {
            for rule in decode::<ClusterRole>(part)?.rules.into_iter().flatten() {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    let filled = ClusterRole { rules: (!rules.is_empty()).then_some(rules), ..role.clone() };
    plan.act(change(&role, &filled, "")?);
    Ok(plan)
}
