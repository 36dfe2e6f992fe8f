//! `pods/eviction`: a deletion that asks the disruption budgets first.

use crate::error::retry_later;
use crate::present::Answer;
use crate::registry::engine::{Engine, Step, Stored};
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

/// Evictions that a budget's controller has yet to hear of; more are refused.
const MOST_PROMISED: usize = 2000;
/// How often a pod that changes meanwhile is looked at again.
const RETRIES: usize = 20;

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
    let options = DeleteOptions::parse(&auth.query, eviction.get("deleteOptions").cloned())?;
    let write = WriteOptions { dry_run: options.dry_run, manager: "kybern-eviction".into(), ..WriteOptions::default() };
    let engine = Engine { admitted: true, ..create::engine(server, &auth, resource, &write) };
    // A budget that another server has just written protects already.
    server.barrier().await?;
    for _ in 0..RETRIES {
        let pod = engine.read_existing(auth.name()).await?;
        let gate = Gate { dry_run: write.dry_run, ..Gate::new(server, &auth, resource) };
        gate.pass(Operation::Create, auth.name(), Some(&mut eviction), Some(&pod.tree)).await?;
        engine.check_delete_preconditions(&pod, &options)?;
        match evict(&engine, &pod, &options).await {
            Ok(()) => {
                let def = resource.def();
                let uid = &pod.object.head.uid;
                return Ok(Answer::Tree(delete::success(&def.group, &def.plural, auth.name(), uid), 201));
            }
            // It changed after it was judged: judged again, as its changed state may ask for.
            Err(Refusal::Changed(None)) if options.revision.is_none() => {}
            Err(Refusal::Changed(Some(budget))) if options.revision.is_none() => return Err(pending(&budget)),
            Err(refusal) => return Err(refusal.into_status(&engine, auth.name())),
        }
    }
    Err(retry_later())
}

/// Why a pod was not evicted.
enum Refusal {
    Status(Status),
    /// It is no longer as it was judged; the budget that let it go without being asked, if any.
    Changed(Option<String>),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Refusal {
    fn into_status(self, engine: &Engine<'_>, name: &str) -> Status {
        let def = engine.resource.def();
        match self {
            Self::Status(status) => status,
            Self::Changed(_) => Status::conflict(&def.group, &def.plural, name, "the object has been modified"),
        }
    }
}

/// What a pod's budgets say about its eviction.
enum Verdict {
    /// None counts it, or one has been paid.
    Paid,
    /// It may go as it is now: it is not what the budget (its name) counts as healthy.
    AsItIs(Option<String>),
}

/// Judges, marks and deletes one state of the pod.
async fn evict(engine: &Engine<'_>, pod: &Stored, options: &DeleteOptions) -> Result<(), Refusal> {
    let verdict = match unbudgeted(&pod.tree) {
        Some(Ends::Anyway) => Verdict::Paid,
        Some(Ends::WhilePending) => Verdict::AsItIs(None),
        None => ask_budgets(engine, pod).await?,
    };
    // What was judged goes, not another pod that has taken its name meanwhile.
    let mut options = options.clone();
    options.uid.get_or_insert_with(|| pod.object.head.uid.to_string());
    let name = &pod.object.head.name;
    if engine.options.dry_run {
        engine.delete(name, &options).await?;
        return Ok(());
    }
    let marked = match &verdict {
        Verdict::Paid => mark(engine, name).await?,
        Verdict::AsItIs(budget) => match engine.put(marked(&pod.tree, engine.auth.now), pod, false).await? {
            Step::Done(written) => written.object.revision,
            Step::Lost(_) => return Err(Refusal::Changed(budget.clone())),
        },
    };
    // The client's revision was that before the mark, and has been checked.
    options.revision = options.revision.map(|_| marked.to_string());
    if let Verdict::AsItIs(_) = verdict {
        options.revision = Some(marked.to_string());
    }
    match engine.delete(name, &options).await {
        Err(e) if e.reason == Reason::Conflict => match verdict {
            Verdict::AsItIs(budget) => Err(Refusal::Changed(budget)),
            Verdict::Paid => Err(e.into()),
        },
        done => Ok(done.map(drop)?),
    }
}

/// Why no budget is asked.
enum Ends {
    /// Finished or on its way already.
    Anyway,
    /// Not running yet; it may begin to any moment.
    WhilePending,
}

fn unbudgeted(pod: &Value) -> Option<Ends> {
    match tree::text(pod, "status.phase") {
        "Succeeded" | "Failed" => Some(Ends::Anyway),
        _ if metadata::deleting(pod) => Some(Ends::Anyway),
        "Pending" => Some(Ends::WhilePending),
        _ => None,
    }
}

fn marked(pod: &Value, now: jiff::Timestamp) -> Value {
    let mut pod = pod.clone();
    let texts = [("reason", "EvictionByEvictionAPI"), ("message", "Eviction API: evicting")];
    set_condition(&mut pod, "DisruptionTarget", "True", &texts, now);
    pod
}

/// Marks the pod as it is by then; its revision after that.
async fn mark(engine: &Engine<'_>, name: &str) -> Result<u64, Status> {
    let mut change = |stored: Option<&Stored>| {
        let def = engine.resource.def();
        let stored = stored.ok_or_else(|| Status::not_found(&def.group, &def.plural, name))?;
        let mut pod = marked(&stored.tree, engine.auth.now);
        // No precondition: whatever changed meanwhile, the budget has been paid.
        tree::remove(&mut pod["metadata"], "resourceVersion");
        Ok(pod)
    };
    engine.update(name, &mut change).await.map(|w| w.object.revision)
}

async fn ask_budgets(engine: &Engine<'_>, pod: &Stored) -> Result<Verdict, Status> {
    let (server, auth) = (engine.server, engine.auth);
    let budgets = matching(server, &pod.object)?;
    let budget = match budgets.as_slice() {
        [] => return Ok(Verdict::Paid),
        [one] => one,
        _ => {
            let text =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::internal(text));
        }
    };
    let (group, version, plural) = BUDGETS;
    let resource = server.kinds.find(group, version, plural).ok_or_else(crate::verbs::no_such_path)?;
    let name = &budget.head.name;
    let budgets =
        Engine { subresource: "status", admitted: true, ..create::engine(server, auth, &resource, engine.options) };
    let current = budgets.read_existing(name).await?;
    if !is_ready(&pod.tree) && lets_unhealthy_go(&current.tree) {
        return Ok(Verdict::AsItIs(Some(name.to_string())));
    }
    let mut change = |stored: Option<&Stored>| {
        let stored = stored.ok_or_else(|| Status::not_found(group, plural, name))?;
        spend(&stored.tree, &pod.object.head.name, auth.now)
    };
    budgets.update(name, &mut change).await.map(|_| Verdict::Paid)
}

fn is_ready(pod: &Value) -> bool {
    tree::list(pod, "status.conditions").iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// May pods that are not healthy go without being counted?
fn lets_unhealthy_go(budget: &Value) -> bool {
    let number = |path| tree::int(budget, path).unwrap_or(0);
    let (has, needs) = (number("status.currentHealthy"), number("status.desiredHealthy"));
    tree::text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow" || (has >= needs && needs > 0)
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

const VIOLATED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// One disruption less, if one is left.
fn spend(budget: &Value, pod: &str, now: jiff::Timestamp) -> Result<Value, Status> {
    let number = |path| tree::int(budget, path).unwrap_or(0);
    let name = metadata::text(budget, "name");
    if number("status.observedGeneration") < metadata::number(budget, "generation").unwrap_or(0) {
        return Err(pending(name));
    }
    let left = number("status.disruptionsAllowed");
    if left < 0 {
        return Err(Status::forbidden("", "poddisruptionbudget", name, "pdb disruptions allowed is negative"));
    }
    if tree::entries(budget, "status.disruptedPods").count() > MOST_PROMISED {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden("", "poddisruptionbudget", name, why));
    }
    if left == 0 {
        let (needs, has) = (number("status.desiredHealthy"), number("status.currentHealthy"));
        let message = format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently");
        return Err(because(Status::new(Reason::TooManyRequests, VIOLATED), message));
    }
    let mut next = budget.clone();
    // Whoever loses the guard looks at the budget again.
    tree::remove(&mut next["metadata"], "resourceVersion");
    next["status"]["disruptionsAllowed"] = (left - 1).into();
    next["status"]["disruptedPods"][pod] = metadata::time(now).into();
    if left == 1 {
        let generation = metadata::number(budget, "generation").unwrap_or(0);
        set_condition(&mut next, "DisruptionAllowed", "False", &[("reason", "InsufficientPods"), ("message", "")], now);
        let conditions = tree::at_mut(&mut next, "status.conditions").and_then(Value::as_array_mut);
        if let Some(condition) = conditions.into_iter().flatten().find(|c| c["type"] == "DisruptionAllowed") {
            condition["observedGeneration"] = generation.into();
        }
    }
    Ok(next)
}

/// The budget's controller has not seen its newest form.
fn pending(budget: &str) -> Status {
    let message = format!("The disruption budget {budget} is still being processed by the server.");
    because(Status::too_many_requests(VIOLATED, 10), message)
}

fn because(mut status: Status, message: String) -> Status {
    let cause = Cause { reason: "DisruptionBudget".into(), message, field: String::new() };
    status.details.get_or_insert_default().causes.push(cause);
    status
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
        assert_eq!(spent["status"]["conditions"][0]["reason"], "InsufficientPods");
        let refused = spend(&spent, "q", now).expect_err("none is left");
        let cause = &refused.details.as_ref().expect("details").causes[0];
        assert_eq!((refused.code, cause.reason.as_str()), (429, "DisruptionBudget"));
        assert_eq!(cause.message, "The disruption budget b needs 0 healthy pods and has 0 currently");

        let mut unseen = budget.clone();
        unseen["metadata"]["generation"] = 2.into();
        let refused = spend(&unseen, "q", now).expect_err("its controller has not seen it");
        let details = refused.details.expect("details");
        assert_eq!((refused.code, details.retry_after_seconds), (429, Some(10)));
        let mut broken = budget;
        broken["status"]["disruptionsAllowed"] = (-1).into();
        assert_eq!(spend(&broken, "q", now).expect_err("a broken budget").code, 403);
    }
}
