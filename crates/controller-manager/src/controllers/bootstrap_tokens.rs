//! Deletes bootstrap tokens when they expire.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kybern_client::store::Item;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Plan, delete};
use kybern_reconcile::view::{World, decode};
use std::sync::Arc;

const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "token-cleaner",
        watches: vec![Watch::mapped::<Secret>(|delta, _| {
            let is_token = |i: &&Item| i.object.head.namespace == NAMESPACE && i.object.head.name.starts_with(PREFIX);
            delta.new.iter().filter(is_token).map(Key::of).collect()
        })],
        writes: vec![Access::to::<Secret>(&["delete"])],
        seeds: Vec::new(),
        workers: 1,
        plan: Arc::new(plan),
    }
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<Secret>(&key.namespace, &key.name) else { return Ok(plan) };
    let secret: Secret = decode(item)?;
    if secret.type_.as_deref() != Some(TYPE) {
        return Ok(plan);
    }
    match expiry(&secret) {
        None => {}
        Some(at) if at > world.now => plan.at(at, world.now),
        Some(_) => plan.act(delete(&typed::resource::<Secret>(), &item.object, None)),
    }
    Ok(plan)
}

/// When the token expires; None: never. One whose time cannot be read has expired.
fn expiry(secret: &Secret) -> Option<Timestamp> {
    let text = secret.data.as_ref()?.get("expiration")?;
    let parsed = std::str::from_utf8(&text.0).ok().and_then(|t| t.parse().ok());
    Some(parsed.unwrap_or(Timestamp::UNIX_EPOCH))
}
