//! The worker's hands: ending containers, and what they leave to say.

use super::observe::{Container, Observed};
use super::worker::Worker;
use super::{Shared, config, hooks, spec, start};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longest termination message the API shows.
const MAX_MESSAGE: usize = 4096;
/// And longest that is taken from a log: so many bytes and lines.
const MAX_LOG_MESSAGE: usize = 2048;
const MAX_LOG_LINES: usize = 80;
/// What is left for the stop signal after a long hook or a long wait.
const LEAST: Duration = Duration::from_secs(2);

/// How a container is to be ended.
pub(super) struct Stop<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    /// Seconds it gets, its hook and its wait included.
    pub(super) grace: i64,
    /// Containers that must have ended before.
    pub(super) after: &'a [String],
}

/// Ends a container in a task of its own: preStop, its turn, stop signal, and a kill when its time is over.
pub(super) fn stop(worker: &mut Worker, pod: &Pod, observed: &Observed, stop: &Stop<'_>) {
    worker.marks.lock().stopping.insert(stop.id.to_owned());
    if let Some(task) = worker.tasks.get(stop.id) {
        task.abort();
    }
    worker.marks.lock().ready.remove(stop.id);
    let found = pod.spec.as_ref().and_then(|s| spec::find(s, stop.name));
    let hook = found.as_ref().and_then(|(c, _)| c.lifecycle.as_ref()?.pre_stop.clone());
    let target = found.map(|(c, _)| start::target(&worker.shared, observed, &c, stop.id));
    let (runtime, poke, marks) = (worker.shared.runtime.clone(), worker.poke.clone(), worker.marks.clone());
    let (events, subject) = (worker.shared.events.clone(), worker.subject.clone());
    let (id, after, running) = (stop.id.to_owned(), stop.after.to_vec(), worker.running.subscribe());
    let grace = Duration::from_secs(stop.grace.max(0).unsigned_abs());
    tokio::spawn(async move {
        let began = tokio::time::Instant::now();
        if let (Some(hook), Some(target)) = (hook, target)
            && !grace.is_zero()
            && let Err(why) = hooks::run(&*runtime, &target, &hook, grace).await
        {
            events.warn(&subject, "FailedPreStopHook", format!("PreStopHook failed: {why}"));
        }
        // A turn that does not come is taken all the same.
        let _ = tokio::time::timeout(grace.saturating_sub(began.elapsed()), turn(running, &after)).await;
        let left = grace.saturating_sub(began.elapsed()).max(grace.min(LEAST));
        if let Err(e) = runtime.stop_container(&id, left).await {
            tracing::warn!(container = id, error = %e, "a container does not stop");
            marks.lock().stopping.remove(&id);
        }
        poke.notify_one();
    });
}

/// Waits until none of these containers runs.
async fn turn(mut running: watch::Receiver<BTreeSet<String>>, after: &[String]) {
    // An error means that the pod's task is over, and nothing will be reported any more.
    let _ = running.wait_for(|ids| after.iter().all(|id| !ids.contains(id))).await;
}

/// Stops with less grace what is being stopped already.
pub(super) fn stop_now(shared: &Arc<Shared>, id: &str, grace: i64) {
    let (runtime, id) = (shared.runtime.clone(), id.to_owned());
    tokio::spawn(async move {
        let grace = Duration::from_secs(grace.max(0).unsigned_abs());
        if let Err(e) = runtime.stop_container(&id, grace).await {
            tracing::warn!(container = id, error = %e, "a container does not stop");
        }
    });
}

/// What an ended container left to say.
pub(super) fn last_words(shared: &Shared, pod: &Pod, c: &Container) -> String {
    let (namespace, name, uid) = config::identity(pod);
    let file = config::termination_log(&shared.paths, uid, &c.name, c.attempt);
    let text = tail(&file, MAX_MESSAGE);
    let found = pod.spec.as_ref().and_then(|s| spec::find(s, &c.name));
    let to_logs = found.is_some_and(|(c, _)| c.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"));
    if !text.is_empty() || !to_logs || c.exit_code == 0 {
        return text;
    }
    let log = shared.paths.pod_logs(namespace, name, uid).join(config::log_path(&c.name, c.attempt));
    log_tail(&tail(&log, MAX_LOG_MESSAGE * 2))
}

/// The texts of the last lines of a CRI log (time, stream, tag, text).
fn log_tail(log: &str) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut midway = false;
    for line in log.lines() {
        let mut parts = line.splitn(4, ' ');
        let (Some(_), Some(_), Some(tag)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let text = parts.next().unwrap_or_default();
        match texts.last_mut().filter(|_| midway) {
            Some(last) => last.push_str(text),
            None => texts.push(text.to_owned()),
        }
        midway = tag.starts_with('P');
    }
    let from = texts.len().saturating_sub(MAX_LOG_LINES);
    let joined: String = texts[from..].iter().flat_map(|t| [t.as_str(), "\n"]).collect();
    let cut = joined.len().saturating_sub(MAX_LOG_MESSAGE);
    let cut = (cut..=joined.len()).find(|i| joined.is_char_boundary(*i)).unwrap_or(joined.len());
    joined[cut..].to_owned()
}

/// The end of a file, at most so many bytes; empty when it cannot be read.
fn tail(path: &std::path::Path, limit: usize) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(limit as u64)))?;
        let mut bytes = Vec::new();
        file.take(limit as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_from_a_log() {
        let log = "T stdout F one\nT stderr P tw\nT stderr F o\nbroken\nT stdout F \n";
        assert_eq!(log_tail(log), "one\ntwo\n\n");
        let long = format!("T stdout F {}\n", "\u{e9}".repeat(3000));
        let words = log_tail(&long);
        assert!(words.len() <= MAX_LOG_MESSAGE && words.ends_with("\u{e9}\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_comes_when_the_others_have_ended() {
        let (running, seen) = watch::channel(BTreeSet::from(["a".to_owned(), "s".to_owned()]));
        let waiting = tokio::spawn(async move { turn(seen, &["a".to_owned()]).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        running.send_replace(BTreeSet::from(["s".to_owned()]));
        waiting.await.unwrap();
    }
}
