//! DELETE of a collection: each selected object as by a DELETE of its own.

use crate::present::Answer;
use crate::registry::engine::Engine;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::request::write_options::{DeleteOptions, WriteOptions};
use crate::server::Inner;
use crate::verbs::{Payload, delete, list};
use futures::stream::{self, StreamExt, TryStreamExt};
use kybern_api::error::{Reason, Status};

/// So many deletions are under way at once.
const PARALLEL: usize = 16;

/// Deletes what the selectors choose and answers with what was there.
pub async fn run(server: &Inner, resource: &Resource, auth: Authorized, payload: Payload) -> Result<Answer, Status> {
    let options = DeleteOptions::parse(&auth.query, delete::body(&payload)?)?;
    let write = WriteOptions { dry_run: options.dry_run, ..WriteOptions::default() };
    let listed = list::list(server, resource, &auth).await?;
    stream::iter(&listed.items)
        .map(Ok::<_, Status>)
        .try_for_each_concurrent(PARALLEL, |object| {
            let engine = Engine {
                server,
                auth: &auth,
                resource,
                subresource: "",
                namespace: &object.head.namespace,
                options: &write,
                raw_options: &options.raw,
                admitted: false,
            };
            let options = &options;
            async move {
                match engine.delete(&object.head.name, options).await {
                    // Somebody else was quicker.
                    Err(e) if e.reason == Reason::NotFound => Ok(()),
                    done => done.map(drop),
                }
            }
        })
        .await?;
    Ok(Answer::List(listed))
}
