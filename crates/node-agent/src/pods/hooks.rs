//! Lifecycle hooks: what runs right after a container's start and right before its stop.

use super::handlers::{self, Target};
use super::http_action;
use crate::runtime::Runtime;
use k8s_openapi::api::core::v1::LifecycleHandler;
use std::time::Duration;

/// A hook without a limit of its own gets this long: such a container could not be ended otherwise.
const LONGEST: Duration = Duration::from_secs(3600);

/// Runs a hook, at most `limit`.
///
/// # Errors
/// Why it failed.
pub async fn run(
    runtime: &dyn Runtime,
    target: &Target,
    hook: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    let limit = limit.min(LONGEST);
    if let Some(a) = &hook.exec {
        handlers::exec(runtime, target, a, limit).await
    } else if let Some(a) = &hook.http_get {
        http_action::get(target, a, limit).await
    } else if hook.tcp_socket.is_some() {
        // Kept in the API for old objects only; it never did anything.
        Err("tcpSocket is no lifecycle handler".into())
    } else if let Some(a) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(a.seconds.max(0).unsigned_abs()).min(limit)).await;
        Ok(())
    } else {
        Ok(())
    }
}
