//! GET of a collection: a page of an immutable snapshot.

use crate::cache::kind::Snapshot;
use crate::cache::selector::Selector;
use crate::error::too_large_revision;
use crate::present::{Answer, Listed};
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::server::Inner;
use crate::verbs::get::FRESH;
use crate::verbs::list_options::{At, ListOptions, token};
use kybern_api::error::{Reason, Status};

/// Answers with a page.
pub async fn run(server: &Inner, resource: &Resource, auth: Authorized) -> Result<Answer, Status> {
    list(server, resource, &auth).await.map(Answer::List)
}

/// The page a request asks for.
pub async fn list(server: &Inner, resource: &Resource, auth: &Authorized) -> Result<Listed, Status> {
    let a = &auth.attributes;
    let prefix = resource.kind.cache.keys().namespace(Some(auth.namespace()));
    let options = ListOptions::parse(&auth.query, &prefix)?;
    let selector = Selector::parse(resource.def(), &a.label_selector, &a.field_selector)?;
    let snapshot = snapshot(server, resource, options.at, options.start.as_deref()).await?;
    Ok(page(&snapshot, &prefix, &selector, &options))
}

/// The kind's state as `at` asks for it.
pub(crate) async fn snapshot(
    server: &Inner,
    resource: &Resource,
    at: At,
    start: Option<&str>,
) -> Result<Snapshot, Status> {
    let cache = &resource.kind.cache;
    match at {
        At::Any => {}
        At::Latest => drop(server.barrier().await?),
        At::NotOlderThan(revision) => caught_up(server, revision).await?,
        At::Exact(revision) => {
            caught_up(server, revision).await?;
            return cache.snapshot_at(revision).ok_or_else(|| expired(start));
        }
    }
    Ok(cache.snapshot(server.caches.applied()))
}

async fn caught_up(server: &Inner, revision: u64) -> Result<(), Status> {
    if server.caches.wait_applied(revision, FRESH).await {
        return Ok(());
    }
    Err(too_large_revision(revision, server.caches.applied()))
}

/// 410; a client in the middle of its pages may go on at the newest revision.
fn expired(start: Option<&str>) -> Status {
    let mut status = match start {
        None => Status::new(Reason::Expired, "The resourceVersion for the provided list is too old."),
        Some(_) => Status::new(
            Reason::Expired,
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list.",
        ),
    };
    status.continue_token = start.map(|s| token(-1, s));
    status
}

fn page(snapshot: &Snapshot, prefix: &str, selector: &Selector, options: &ListOptions) -> Listed {
    let start = options.start.as_deref().map(str::as_bytes);
    let mut items = Vec::new();
    let mut next = None;
    let mut rest = snapshot.range(prefix, start);
    let mut last = None;
    for (suffix, object) in rest.by_ref() {
        if options.limit > 0 && items.len() == options.limit {
            // The place right after the last one taken, so that what is deleted meanwhile does no harm.
            next =
                last.map(|l: &bytes::Bytes| token(revision_of(snapshot), &format!("{}\0", String::from_utf8_lossy(l))));
            break;
        }
        if selector.matches(&object.head) {
            items.push(object.clone());
        }
        last = Some(suffix);
    }
    let remaining = (next.is_some() && selector.is_everything()).then(|| 1 + rest.count() as u64);
    Listed { revision: snapshot.revision, items, next, remaining }
}

fn revision_of(snapshot: &Snapshot) -> i64 {
    i64::try_from(snapshot.revision).unwrap_or(i64::MAX)
}
