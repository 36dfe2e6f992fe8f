//! GET of a collection with `watch=true`.

use crate::cache::Watcher;
use crate::cache::selector::Selector;
use crate::cache::watcher::{Options, Start};
use crate::present::Answer;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::server::Inner;
use crate::verbs::get::FRESH;
use crate::verbs::list_options::{At, WatchOptions};
use kybern_api::error::Status;
use std::time::Duration;
use tokio::time::Instant;

/// Seconds a watch lasts at most, however many are asked for.
const LONGEST: u64 = 24 * 3600;

/// Opens the watch.
pub async fn run(server: &Inner, resource: &Resource, auth: Authorized) -> Result<Answer, Status> {
    let options = WatchOptions::parse(&auth.query)?;
    open(server, resource, &auth, &options).await.map(|w| Answer::Watch(Box::new(w)))
}

/// A watch as a request asks for it. One that comes too late opens all the same and ends at once with
/// the reason, as clients expect.
pub async fn open(
    server: &Inner,
    resource: &Resource,
    auth: &Authorized,
    options: &WatchOptions,
) -> Result<Watcher, Status> {
    let a = &auth.attributes;
    let selector = Selector::parse(resource.def(), &a.label_selector, &a.field_selector)?;
    let start = match options.at {
        At::Latest => {
            server.barrier().await?;
            Start::Snapshot(options.initial)
        }
        At::Any => Start::Snapshot(options.initial),
        At::NotOlderThan(revision) => {
            server.caches.wait_applied(revision, FRESH).await;
            Start::Snapshot(options.initial)
        }
        At::Exact(revision) => Start::After(revision),
    };
    let options = Options {
        selector,
        prefix: resource.kind.cache.keys().namespace(Some(auth.namespace())),
        bookmarks: options.bookmarks,
        mark_initial: options.mark_initial,
        prompt: options.prompt,
        deadline: Instant::now()
            + Duration::from_secs(options.timeout.unwrap_or_else(|| lifetime(server)).min(LONGEST)),
        stop: server.drain.clone(),
    };
    Ok(Watcher::open(server.caches.clone(), resource.kind.cache.clone(), start, options))
}

/// Between half an hour and an hour, so that watches opened together do not end together.
fn lifetime(server: &Inner) -> u64 {
    const HALF_HOUR: u64 = 1800;
    let nanos = server.clock.now().subsec_nanosecond().unsigned_abs();
    HALF_HOUR + u64::from(nanos) % HALF_HOUR
}
