//! `kybern bench hollow`: many nodes in one process, whose pods become Ready without containers.
//!
//! Everything goes through the API: registration, leases, one watch of all pods, statuses, deletions. It
//! does so with one credential that may act for all nodes, as kwok does, not with an identity per node:
//! a thousand connections and watches would measure this process more than the servers, and what one
//! node's identity may do is the business of the real agents' tests.

mod layout;
mod nodes;
mod pods;
mod work;

use crate::cli::HollowArgs;
use crate::roles;
use anyhow::{Context, Result};
use futures::StreamExt;
use kybern_api::error::Reason;
use kybern_api::seam::SystemClock;
use kybern_client::http::HttpTransport;
use kybern_client::kubeconfig::Kubeconfig;
use kybern_client::transport::{Resource, Selection, Transport, WatchEvent};
use kybern_client::write::Writer;
use layout::Layout;
use pods::Table;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use work::Work;

/// Requests under way at a time.
const CONCURRENT: usize = 64;
/// Work that waits for them; behind it the watch waits.
const QUEUE: usize = 1_024;
/// A watch that failed is opened again after this time.
const REOPEN: Duration = Duration::from_millis(500);

/// Runs the nodes until told to stop. They stay registered, and become NotReady like any node that
/// has gone silent.
///
/// # Errors
/// One line with the cause and what to do.
pub fn run(args: &HollowArgs) -> Result<()> {
    let layout = Layout::new(args.nodes, args.pod_cidr)?;
    let connection = Kubeconfig::load(&args.kubeconfig)?.connection()?;
    roles::runtime()?.block_on(async {
        let stop = roles::until_told_to_stop()?;
        // Connections of their own: a watch that waits for room in the queue must not hold up the answers to
        // the writes that make it.
        let watching = HttpTransport::new(connection.clone())?;
        let writer = Writer::new(Arc::new(HttpTransport::new(connection)?), "kybern-hollow", 0);
        let clock = Arc::new(SystemClock::default());
        let begun = tokio::time::Instant::now();
        let hollow = nodes::Nodes { layout, max_pods: args.max_pods, writer: writer.clone(), clock: clock.clone() };
        let registered = stop.run_until_cancelled(hollow.register()).await;
        let Some(uids) = registered.transpose().context("the nodes could not be registered")? else { return Ok(()) };
        println!("{} nodes are registered after {:.2} s", args.nodes, begun.elapsed().as_secs_f64());
        hollow.keep_leases(uids, &stop);
        let (queue, work) = mpsc::channel(QUEUE);
        // Ended with this function: what is left of it would repeat itself as long as no server answers.
        let _working = AbortOnDropHandle::new(tokio::spawn(work::run(work, writer, clock)));
        stop.run_until_cancelled(follow(&watching, layout, queue)).await;
        Ok(())
    })
}

/// Watches all pods for ever and queues what there is to do for them.
async fn follow(transport: &dyn Transport, layout: Layout, queue: mpsc::Sender<Work>) {
    let pods = Resource::new("", "v1", "pods");
    let bound = Selection { fields: "spec.nodeName!=".into(), ..Selection::default() };
    let mut table = Table::new(layout);
    // From 0 a watch begins with what is there, one object at a time: no list is held here.
    let mut revision = 0;
    loop {
        if revision == 0 {
            table.begin();
        }
        match watch(transport, (&pods, &bound), &mut revision, &mut table, &queue).await {
            Err(status) if matches!(status.reason, Reason::Expired | Reason::Gone) => revision = 0,
            Err(status) => {
                eprintln!("the watch of pods failed and is opened again: {status}");
                tokio::time::sleep(REOPEN).await;
            }
            Ok(()) if queue.is_closed() => return,
            Ok(()) => {}
        }
    }
}

async fn watch(
    transport: &dyn Transport,
    (pods, bound): (&Resource, &Selection),
    revision: &mut u64,
    table: &mut Table,
    queue: &mpsc::Sender<Work>,
) -> Result<(), kybern_api::error::Status> {
    let mut events = transport.watch(pods, bound, *revision).await?;
    while let Some(event) = events.next().await {
        let work = match event? {
            WatchEvent::Bookmark(at) => {
                *revision = at;
                table.settle();
                None
            }
            WatchEvent::Object(kind, object) => {
                *revision = object.revision.max(*revision);
                table.see(kind, object)
            }
        };
        if let Some(work) = work
            && queue.send(work).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}
