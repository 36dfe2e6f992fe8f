//! What holds up the end of a namespace, as its conditions say.

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use kybern_client::transport::Resource;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Action, change};
use kybern_reconcile::view::World;
use std::collections::BTreeMap;

/// Type, and reason and message when all is well.
const WELL: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (FAILURE, "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
    (REMAINING, "ContentRemoved", "All content successfully removed"),
    (FINALIZERS, "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];
const FAILURE: &str = "NamespaceDeletionContentFailure";
const REMAINING: &str = "NamespaceContentRemaining";
const FINALIZERS: &str = "NamespaceFinalizersRemaining";

/// The write that makes the conditions say what lingers; none while nothing does, for what is only about
/// to be deleted is gone the next moment.
pub(super) fn report(
    world: &World<'_>,
    namespace: &Namespace,
    resources: &[Resource],
) -> Result<Option<Action>, Error> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let troubles = troubles(world, name, resources);
    if troubles.is_empty() {
        return Ok(None);
    }
    let mut new = namespace.clone();
    let conditions = new.status.get_or_insert_default().conditions.get_or_insert_default();
    for (kind, reason, message) in WELL {
        match troubles.get(kind) {
            Some((reason, message)) => set(world, conditions, (kind, "True", reason, message)),
            None => set(world, conditions, (kind, "False", reason, message)),
        }
    }
    change(namespace, &new, "status")
}

type Troubles = BTreeMap<&'static str, (&'static str, String)>;

fn troubles(world: &World<'_>, namespace: &str, resources: &[Resource]) -> Troubles {
    let mut troubles = Troubles::new();
    let mut remaining = Vec::new();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for resource in resources {
        let store = world.view.store(&resource.group, &resource.plural);
        let mut count = 0;
        for item in store.in_namespace(namespace).filter(|i| i.object.head.deleting.is_some()) {
            count += 1;
            item.object.head.finalizers.iter().for_each(|f| *finalizers.entry(f).or_default() += 1);
        }
        if count > 0 {
            remaining.push(format!("{}.{} has {count} resource instances", resource.plural, resource.group));
        }
    }
    if let Some(error) = world.failure {
        let text = format!("Failed to delete all resource types, 1 remaining: {error}");
        troubles.insert(FAILURE, ("ContentDeletionFailed", text));
    }
    if !remaining.is_empty() {
        remaining.sort();
        let text = format!("Some resources are remaining: {}", remaining.join(", "));
        troubles.insert(REMAINING, ("SomeResourcesRemain", text));
    }
    if !finalizers.is_empty() {
        let list: Vec<String> =
            finalizers.iter().map(|(name, n)| format!("{name} in {n} resource instances")).collect();
        let text = format!("Some content in the namespace has finalizers remaining: {}", list.join(", "));
        troubles.insert(FINALIZERS, ("SomeFinalizersRemain", text));
    }
    troubles
}

/// Sets a condition; its time moves only when its status does.
fn set(
    world: &World<'_>,
    all: &mut Vec<NamespaceCondition>,
    (kind, status, reason, message): (&str, &str, &str, &str),
) {
    let at = all.iter().position(|c| c.type_ == kind);
    let since = at.filter(|i| all[*i].status == status).and_then(|i| all[i].last_transition_time.clone());
    let condition = NamespaceCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(since.unwrap_or_else(|| world.time())),
    };
    match at {
        Some(i) => all[i] = condition,
        None => all.push(condition),
    }
}
