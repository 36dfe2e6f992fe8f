//! /healthz, /livez and /readyz, as a whole and per check.

use crate::present::body::Body;
use crate::present::respond;
use crate::request::query::Query;
use crate::server::ApiServer;
use http::{Response, StatusCode};
use std::fmt::Write;
use std::time::Duration;

/// What is checked under which path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Ping,
    /// The store answers a read barrier: a quorum is there.
    Store,
    /// The caches hold what the cluster had when the server was started.
    Caches,
    /// The server is not about to stop.
    Shutdown,
}

/// A quorum that answers takes no longer.
const STORE_WAIT: Duration = Duration::from_secs(1);

const ALL: [(Check, &str); 4] =
    [(Check::Ping, "ping"), (Check::Store, "etcd"), (Check::Caches, "informer-sync"), (Check::Shutdown, "shutdown")];

/// The checks of each path. Liveness does not ask for a quorum: a restart would not bring it back.
fn checks(root: &str) -> &'static [Check] {
    match root {
        "livez" => &[Check::Ping],
        _ => &[Check::Ping, Check::Store, Check::Caches, Check::Shutdown],
    }
}

/// Answers a health path; None for another.
pub(crate) async fn serve(server: &ApiServer, path: &str, query: &Query) -> Option<Response<Body>> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let root = parts.next().filter(|r| matches!(*r, "healthz" | "livez" | "readyz"))?;
    let only = parts.next();
    let mut report = String::new();
    let mut healthy = true;
    let mut matched = false;
    for (check, name) in ALL.iter().filter(|(c, n)| checks(root).contains(c) && only.is_none_or(|o| o == *n)) {
        matched = true;
        if query.all("exclude").any(|e| e == *name) {
            writeln!(report, "[+]{name} excluded: ok").ok();
            continue;
        }
        match run(server, *check).await {
            Ok(()) => writeln!(report, "[+]{name} ok").ok(),
            Err(why) => {
                tracing::info!(check = name, why, "health check failed");
                healthy = false;
                writeln!(report, "[-]{name} failed: reason withheld").ok()
            }
        };
    }
    if !matched {
        return Some(crate::doors::http::page_not_found());
    }
    Some(answer(root, healthy, query.has("verbose"), report))
}

fn answer(root: &str, healthy: bool, verbose: bool, mut report: String) -> Response<Body> {
    if !healthy {
        writeln!(report, "{root} check failed").ok();
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, report);
    }
    if !verbose {
        return respond::text(StatusCode::OK, "ok");
    }
    writeln!(report, "{root} check passed").ok();
    respond::text(StatusCode::OK, report)
}

/// A check says at once what is known; only a quorum that may be there is waited for.
async fn run(server: &ApiServer, check: Check) -> Result<(), String> {
    match check {
        Check::Ping => Ok(()),
        Check::Store if server.0.store.leadership().borrow().leader.is_none() => Err("no member leads".into()),
        Check::Store if !server.0.recovery.done() => Err("the store has not caught up yet".into()),
        Check::Store => {
            let barrier = server.0.store.read_barrier();
            match tokio::time::timeout(STORE_WAIT, barrier).await {
                Ok(done) => done.map(drop).map_err(|e| e.to_string()),
                Err(_) => Err("no answer within a second".into()),
            }
        }
        Check::Caches if server.0.recovery.done() => Ok(()),
        Check::Caches => Err("the caches have not caught up yet".into()),
        Check::Shutdown if server.0.drain.is_cancelled() => Err("the server is stopping".into()),
        Check::Shutdown => Ok(()),
    }
}
