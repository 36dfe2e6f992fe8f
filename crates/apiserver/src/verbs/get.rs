//! GET of an item.

use crate::error::too_large_revision;
use crate::present::Answer;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::request::query;
use crate::server::Inner;
use kybern_api::error::Status;
use kybern_api::object::Object;
use kybern_raftstore::model::KeyValue;
use std::time::Duration;

/// A server waits so long for a revision it has not reached.
pub(crate) const FRESH: Duration = Duration::from_secs(3);

/// Answers with the object.
pub async fn run(server: &Inner, resource: &Resource, auth: Authorized) -> Result<Answer, Status> {
    match auth.query.get("resourceVersion") {
        None => drop(server.read_barrier().await?),
        Some("0") => {}
        Some(text) => not_older_than(server, query::revision(text)?).await?,
    }
    let object = current(server, resource, auth.namespace(), auth.name())?;
    Ok(Answer::Object(object, false))
}

/// The object as the store has it here and now.
pub fn current(server: &Inner, resource: &Resource, namespace: &str, name: &str) -> Result<Object, Status> {
    let (def, key) = (resource.def(), resource.kind.cache.keys().object(namespace, name));
    let entry = server.store.get(&key).ok_or_else(|| Status::not_found(&def.group, &def.plural, name))?;
    open(resource, &entry)
}

/// The object of an entry; the cache's own, with its parsed head, where that is as fresh.
pub(crate) fn open(resource: &Resource, entry: &KeyValue) -> Result<Object, Status> {
    let cache = &resource.kind.cache;
    if let Some(object) = cache.get(&cache.keys().suffix_of(&entry.key)).filter(|o| o.revision == entry.mod_revision) {
        return Ok(object);
    }
    use crate::cache::feeder::Open;
    resource.kind.opener.open(entry).ok_or_else(|| Status::internal("the stored object cannot be read"))
}

/// Waits until the store's state here is at least at `revision`.
///
/// # Errors
/// 504 after three seconds.
pub(crate) async fn not_older_than(server: &Inner, revision: u64) -> Result<(), Status> {
    if server.store.view().revision() >= revision || server.store.wait_for(revision, FRESH).await.is_ok() {
        return Ok(());
    }
    Err(too_large_revision(revision, server.store.view().revision()))
}
