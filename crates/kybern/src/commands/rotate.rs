//! `kybern certificate rotate` and `rotate-ca`: asks the leader for new certificates, and watches until every
//! server and node has them.

use super::identity::{keys_of, lifetime};
use crate::cli::RotateArgs;
use crate::kubeconfigs;
use crate::roles::certificates::{Board, Kind, REQUEST, Request};
use anyhow::{Context, Result, bail};
use jiff::SignedDuration;
use kybern_api::certificates::{CONFIG_MAP, NAMESPACE};
use kybern_api::seam::{Clock, Ids, SystemClock, SystemIds};
use kybern_client::http::HttpTransport;
use kybern_client::informer::Informer;
use kybern_client::kubeconfig::Kubeconfig;
use kybern_client::transport::{MERGE_PATCH, Resource, Selection, Transport};
use kybern_client::write::{At, Writer};
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs `rotate` (no `pause`) or `rotate-ca`.
///
/// # Errors
/// One line with the cause and what to do.
pub(super) fn run(args: &RotateArgs, pause: Option<&str>) -> Result<()> {
    let (kind, pause) = match pause {
        Some(pause) => (Kind::Authorities, lifetime(pause)?),
        None => (Kind::Leaves, SignedDuration::ZERO),
    };
    // Who may not read the keys could not renew the kubeconfig either: say so before anything begins.
    keys_of(&args.data_dir)?;
    let request = Request { kind, id: SystemIds.uid(), pause }.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        ask(connect(args)?, &request).await?;
        let mut told = Told::default();
        // The kubeconfig is renewed with every step: what connects later believes what is to come.
        while !step(args, &request, &mut told).await? {}
        println!("done");
        Ok(())
    })
}

fn connect(args: &RotateArgs) -> Result<Arc<dyn Transport>> {
    Ok(Arc::new(HttpTransport::new(Kubeconfig::load(&args.kubeconfig)?.connection()?)?))
}

fn maps() -> Resource {
    Resource::new("", "v1", "configmaps")
}

async fn ask(api: Arc<dyn Transport>, request: &str) -> Result<()> {
    let at = At { resource: &maps(), namespace: NAMESPACE, name: CONFIG_MAP, subresource: "" };
    let asked = Writer::new(api, "kybern", 0).patch(at, MERGE_PATCH, &json!({ "data": { REQUEST: request } })).await;
    asked.map(drop).context("the cluster does not take the request")
}

/// What was printed last.
#[derive(Default)]
struct Told {
    generation: Option<u64>,
    status: String,
}

/// Follows until the next step is published (false) or all is done (true).
async fn step(args: &RotateArgs, request: &str, told: &mut Told) -> Result<bool> {
    let cancel = CancellationToken::new();
    let _following = cancel.clone().drop_guard();
    let selection = Selection {
        namespace: NAMESPACE.into(),
        fields: format!("metadata.name={CONFIG_MAP}"),
        ..Selection::default()
    };
    let informer = Informer::start(connect(args)?, maps(), selection, None, cancel);
    let mut changes = informer.subscribe();
    while let Some(change) = changes.recv().await {
        let board = change.new.map(|item| Board::read(&item.object)).unwrap_or_default();
        if board.done == request {
            return Ok(true);
        }
        if board.request != request {
            bail!("another request has taken the place of this one");
        }
        if told.status != board.status && !board.status.is_empty() {
            println!("{}", board.status);
            told.status = board.status;
        }
        if told.generation != board.generation {
            told.generation = board.generation;
            kubeconfigs::renew(&args.kubeconfig, &keys_of(&args.data_dir)?, SystemClock::default().now())?;
            return Ok(false);
        }
    }
    bail!("the connection to the cluster was lost")
}
