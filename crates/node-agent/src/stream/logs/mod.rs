//! Container logs: files in the CRI format, read from an end or a time, and followed.

mod file;
mod line;

use super::{Opening, Services};
use crate::pods::find::ContainerRef;
use file::{LogFile, News, Watch};
use kybern_api::error::Status;
use kybern_stream::mux::{Channel, Sender};
use kybern_wire::node::Logs;
use line::Writer;
use std::time::Duration;
use tokio::time::Instant;

/// After its log was closed, a container that still counts as running gets so long to be seen ended:
/// the runtime closes the log before it records the exit.
const EXIT_GRACE: Duration = Duration::from_secs(5);
const EXIT_LOOK: Duration = Duration::from_millis(100);

/// Sends a container's log; with `follow`, until the container ends or the client goes.
pub(super) async fn serve(services: &Services, logs: Logs, opening: Opening) {
    let begun = begin(services, &logs).await;
    let (mut log, writer) = match begun {
        Ok(begun) => begun,
        Err(status) => return opening.refuse(&status),
    };
    let Channel { sender, mut receiver } = opening.accept(200, "text/plain");
    let sending = send(services, &logs, &mut log, writer, &sender);
    let error = tokio::select! {
        sent = sending => sent.err().map(|e| e.to_string()).unwrap_or_default(),
        // The client says nothing but that it goes.
        _ = receiver.recv() => String::new(),
    };
    sender.close(&error);
}

/// A log being read, and whether more is to come.
struct Log {
    file: LogFile,
    /// Made before the first read, so that nothing written meanwhile is missed.
    watch: Option<Watch>,
}

async fn begin(services: &Services, logs: &Logs) -> Result<(Log, Writer), Status> {
    let unreadable = |e: std::io::Error| Status::internal(format!("log of container \"{}\": {e}", logs.container));
    let found = find(services, logs).await?;
    let since = since(services, logs)?;
    let follow = logs.follow && !logs.previous && found.running;
    let watch = if follow { Some(Watch::new(&found.log_path).map_err(unreadable)?) } else { None };
    let mut file = LogFile::open(&found.log_path).await.map_err(unreadable)?;
    if let Some(lines) = logs.tail_lines {
        file.seek_to_tail(u64::try_from(lines).unwrap_or(0)).await.map_err(unreadable)?;
    }
    let limit = logs.limit_bytes.and_then(|l| u64::try_from(l).ok());
    Ok((Log { file, watch }, Writer::new(since, logs.timestamps, &logs.stream, limit)))
}

async fn find(services: &Services, logs: &Logs) -> Result<ContainerRef, Status> {
    services.containers.find(&logs.namespace, &logs.pod, &logs.uid, &logs.container, logs.previous).await
}

fn since(services: &Services, logs: &Logs) -> Result<Option<jiff::Timestamp>, Status> {
    if let Some(time) = &logs.since_time {
        return time.parse().map(Some).map_err(|_| Status::bad_request(format!("sinceTime: \"{time}\" is no time")));
    }
    let Some(seconds) = logs.since_seconds else { return Ok(None) };
    let ago = jiff::SignedDuration::from_secs(seconds);
    Ok(services.clock.now().saturating_sub(ago).ok())
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("read the log: {0}")]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Send(#[from] kybern_stream::mux::ChannelError),
}

async fn send(
    services: &Services,
    logs: &Logs,
    log: &mut Log,
    mut writer: Writer,
    to: &Sender,
) -> Result<(), SendError> {
    loop {
        while let Some(line) = log.file.next_line().await? {
            let more = writer.line(line);
            if writer.is_full() {
                to.send(0, writer.take()).await?;
            }
            if !more {
                break;
            }
        }
        to.send(0, writer.take()).await?;
        let Some(watch) = log.watch.as_mut().filter(|_| !writer.is_done()) else { return Ok(()) };
        match watch.next().await? {
            News::Written => {}
            News::Closed => {
                if has_ended(services, logs).await {
                    // What was written before the end is still to be read, and then nothing more.
                    log.watch = None;
                }
            }
            News::Replaced => {
                log.file.rest_then_reopen().await?;
                *watch = Watch::new(log.file.path())?;
            }
        }
    }
}

/// Has the container ended? Its log was closed: that is seen at once or soon, or it was a rotation.
async fn has_ended(services: &Services, logs: &Logs) -> bool {
    let deadline = Instant::now() + EXIT_GRACE;
    while Instant::now() < deadline {
        match find(services, logs).await {
            Ok(found) if found.running => tokio::time::sleep(EXIT_LOOK).await,
            _ => return true,
        }
    }
    false
}
