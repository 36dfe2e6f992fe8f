//! `pods/eviction`: a deletion that asks the disruption budgets first.

use crate::present::Answer;
use crate::registry::engine::{Engine, Stored};
use crate::registry::gate::Gate;
use crate::registry::kinds::Resource;
use crate::registry::metadata;
use crate::request::chain::Authorized;
use crate::request::write_options::{DeleteOptions, WriteOptions};
use crate::server::Inner;
use crate::subresource::binding::set_condition;
use crate::verbs::{Payload, create, delete};
use kybern_admission::Operation;
use kybern_api::error::{Cause, Reason, Status};
use kybern_api::meta::selector::Selector;
use kybern_api::object::Object;
use kybern_api::seam::Lister;
use kybern_api::tree;
use serde_json::Value;

/// Where budgets are kept.
const BUDGETS: (&str, &str, &str) = ("policy", "v1", "poddisruptionbudgets");

/// POST of `eviction`.
pub(crate) async fn run(
    server: &Inner,
    resource: &Resource,
    auth: Authorized,
    payload: Payload,
) -> Result<Answer, Status> {
    let mut eviction = super::decode(resource, &auth, &payload)?;
    let name = metadata::text(&eviction, "name");
    if !name.is_empty() && name != auth.name() {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let body = eviction.get("deleteOptions").cloned();
    let mut options = DeleteOptions::parse(&auth.query, body)?;
    let write = WriteOptions { dry_run: options.dry_run, manager: "kybern-eviction".into(), ..WriteOptions::default() };
    let engine = Engine { admitted: true, ..create::engine(server, &auth, resource, &write) };
    let pod = engine.read_existing(auth.name()).await?;
    let gate = Gate { dry_run: write.dry_run, ..Gate::new(server, &auth, resource) };
    gate.pass(Operation::Create, auth.name(), Some(&mut eviction), Some(&pod.tree)).await?;
    // What was judged goes, not another pod that has taken its name meanwhile.
    options.uid.get_or_insert_with(|| pod.object.head.uid.to_string());
    if !unbudgeted(&pod.tree) {
        take_from_budget(server, &auth, &write, &pod.object).await?;
        mark(&engine, auth.name(), auth.now).await?;
    }
    engine.delete(auth.name(), &options).await?;
    let def = resource.def();
    Ok(Answer::Tree(delete::success(&def.group, &def.plural, auth.name(), &pod.object.head.uid), 201))
}

/// Finished, not yet running or already going: no budget counts it.
fn unbudgeted(pod: &Value) -> bool {
    matches!(tree::text(pod, "status.phase"), "Succeeded" | "Failed" | "Pending") || metadata::deleting(pod)
}

async fn mark(engine: &Engine<'_>, name: &str, now: jiff::Timestamp) -> Result<(), Status> {
    let mut change = |stored: Option<&Stored>| {
        let def = engine.resource.def();
        let mut pod = stored.ok_or_else(|| Status::not_found(&def.group, &def.plural, name))?.tree.clone();
        let texts = [("reason", "EvictionByEvictionAPI"), ("message", "Eviction API: evicting")];
        set_condition(&mut pod, "DisruptionTarget", "True", &texts, now);
        Ok(pod)
    };
    engine.update(name, &mut change).await.map(drop)
}

async fn take_from_budget(server: &Inner, auth: &Authorized, write: &WriteOptions, pod: &Object) -> Result<(), Status> {
    let budgets = matching(server, pod)?;
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            let text =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::internal(text));
        }
    };
    let (group, version, plural) = BUDGETS;
    let resource = server.kinds.find(group, version, plural).ok_or_else(crate::verbs::no_such_path)?;
    let engine = Engine { subresource: "status", admitted: true, ..create::engine(server, auth, &resource, write) };
    let mut change = |stored: Option<&Stored>| {
        let stored = stored.ok_or_else(|| Status::not_found(group, plural, &budget.head.name))?;
        spend(&stored.tree, &pod.head.name, auth.now)
    };
    engine.update(&budget.head.name, &mut change).await.map(drop)
}

fn matching(server: &Inner, pod: &Object) -> Result<Vec<Object>, Status> {
    let mut out = Vec::new();
    for budget in server.kinds.list(BUDGETS.0, BUDGETS.2, Some(&pod.head.namespace)) {
        let tree = budget.tree().map_err(|e| Status::internal(e.to_string()))?;
        let selector = Selector::from_object(tree::at(&tree, "spec.selector")).map_err(Status::internal)?;
        if selector.matches(pod.head.as_ref()) {
            out.push(budget);
        }
    }
    Ok(out)
}

/// One disruption less, if one is left.
fn spend(budget: &Value, pod: &str, now: jiff::Timestamp) -> Result<Value, Status> {
    let number = |path| tree::int(budget, path).unwrap_or(0);
    if number("status.observedGeneration") < metadata::number(budget, "generation").unwrap_or(0) {
        let text = "Cannot evict pod as it would violate the pod's disruption budget.";
        return Err(Status::too_many_requests(text, 10));
    }
    let left = number("status.disruptionsAllowed");
    if left <= 0 {
        let name = metadata::text(budget, "name");
        let (needs, has) = (number("status.desiredHealthy"), number("status.currentHealthy"));
        let mut status =
            Status::new(Reason::TooManyRequests, "Cannot evict pod as it would violate the pod's disruption budget.");
        let message = format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently");
        let cause = Cause { reason: "DisruptionBudget".into(), message, field: String::new() };
        status.details = Some(Box::new(kybern_api::error::Details { causes: vec![cause], ..Default::default() }));
        return Err(status);
    }
    let mut next = budget.clone();
    next["status"]["disruptionsAllowed"] = (left - 1).into();
    next["status"]["disruptedPods"][pod] = metadata::time(now).into();
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn budgets_are_spent_once() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let budget = json!({"metadata": {"name": "b", "generation": 1}, "status": {"observedGeneration": 1, "disruptionsAllowed": 1}});
        let spent = spend(&budget, "p", now).expect("one is left");
        assert_eq!(spent["status"]["disruptionsAllowed"], 0);
        assert_eq!(spent["status"]["disruptedPods"]["p"], "1970-01-01T00:00:00Z");
        assert_eq!(spend(&spent, "q", now).expect_err("none is left").code, 429);
    }
}
