//! The event recorder: plans' notes as Event objects, repeated ones counted instead of repeated.

use crate::plan::Note;
use crate::view::whole_seconds;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kybern_api::error::Reason;
use kybern_api::seam::{Clock, Ids};
use kybern_client::transport::MERGE_PATCH;
use kybern_client::typed;
use kybern_client::write::{At, Writer};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Notes that wait to be written; more are dropped (and counted in the log), never waited for.
const BACKLOG: usize = 8192;
/// Notes taken together: the same ones among them become one write.
const BATCH: usize = 256;
/// Writes on their way at the same time: events of a large rollout must not come minutes later.
const AT_ONCE: usize = 16;
/// Series that are remembered for counting.
const MEMORY: usize = 4096;

/// Takes notes without waiting; a task of its own writes them.
#[derive(Clone)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
}

impl Recorder {
    /// Starts the writing task, which ends with `cancel` or when the last recorder is dropped.
    /// `component` becomes the source of the events.
    pub fn start(
        writer: Writer,
        component: impl Into<String>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        cancel: CancellationToken,
    ) -> Self {
        let (notes, receiver) = mpsc::channel(BACKLOG);
        let component = component.into();
        let scribe = Scribe { writer, component, clock, ids, series: HashMap::new() };
        tokio::spawn(cancel.run_until_cancelled_owned(scribe.run(receiver)));
        Self { notes }
    }
    /// Records a note, or drops it when too many wait.
    pub fn record(&self, note: Note) {
        if let Err(e) = self.notes.try_send(note) {
            tracing::debug!(error = %e, "event dropped");
        }
    }
}

/// What makes two notes the same event.
#[derive(Clone, PartialEq, Eq, Hash)]
struct SeriesKey {
    uid: String,
    kind: String,
    reason: String,
    message: String,
    warning: bool,
}

impl SeriesKey {
    fn of(note: &Note) -> Self {
        Self {
            uid: note.about.uid.clone().unwrap_or_default(),
            kind: note.about.kind.clone().unwrap_or_default(),
            reason: note.reason.to_string(),
            message: note.message.clone(),
            warning: note.warning,
        }
    }
}

#[derive(Clone)]
struct Series {
    namespace: String,
    name: String,
    count: i32,
}

/// What a batch says of one series: the note, how often, and what is known of it already.
struct Told {
    key: SeriesKey,
    note: Note,
    times: i32,
    known: Option<Series>,
}

struct Scribe {
    writer: Writer,
    component: String,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    series: HashMap<SeriesKey, Series>,
}

impl Scribe {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        let mut batch = Vec::with_capacity(BATCH);
        while notes.recv_many(&mut batch, BATCH).await > 0 {
            let told = self.sum_up(batch.drain(..));
            let writes = futures::stream::iter(told).map(|told| self.write(told)).buffer_unordered(AT_ONCE);
            let written: Vec<(SeriesKey, Option<Series>)> = writes.collect().await;
            if self.series.len() + written.len() > MEMORY {
                self.series.clear();
            }
            for (key, series) in written {
                match series {
                    Some(series) => self.series.insert(key, series),
                    None => self.series.remove(&key),
                };
            }
        }
    }

    /// Every series of a batch once, in the order of their first notes.
    fn sum_up(&self, batch: impl Iterator<Item = Note>) -> Vec<Told> {
        let mut told: Vec<Told> = Vec::new();
        let mut places: HashMap<SeriesKey, usize> = HashMap::new();
        for note in batch {
            let key = SeriesKey::of(&note);
            if let Some(&place) = places.get(&key) {
                told[place].times += 1;
            } else {
                places.insert(key.clone(), told.len());
                told.push(Told { known: self.series.get(&key).cloned(), key, note, times: 1 });
            }
        }
        told
    }

    /// Writes a series' notes; what is known of it then.
    async fn write(&self, told: Told) -> (SeriesKey, Option<Series>) {
        let Told { key, note, times, known } = told;
        if let Some(mut series) = known {
            series.count = series.count.saturating_add(times);
            if self.repeat(&series).await {
                return (key, Some(series));
            }
        }
        let series = self.first(note, times).await;
        (key, series)
    }

    /// Counts repetitions; false when the event has expired meanwhile.
    async fn repeat(&self, series: &Series) -> bool {
        let resource = typed::resource::<Event>();
        let at = At { resource: &resource, namespace: &series.namespace, name: &series.name, subresource: "" };
        let patch = json!({"count": series.count, "lastTimestamp": Time(whole_seconds(self.clock.now()))});
        match self.writer.patch(at, MERGE_PATCH, &patch).await {
            Ok(_) => true,
            Err(status) => {
                tracing::debug!(error = %status, "event not counted");
                status.reason != Reason::NotFound
            }
        }
    }

    async fn first(&self, note: Note, count: i32) -> Option<Series> {
        let now = self.clock.now();
        let namespace = note.about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
        let base: String = note.about.name.clone().unwrap_or_default().chars().take(240).collect();
        let name = format!("{base}.{:x}{}", now.as_microsecond(), self.ids.suffix());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: note.about,
            reason: Some(note.reason.to_string()),
            message: Some(note.message),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            count: Some(count),
            first_timestamp: Some(Time(whole_seconds(now))),
            last_timestamp: Some(Time(whole_seconds(now))),
            event_time: None::<MicroTime>,
            source: Some(EventSource { component: Some(self.component.clone()), host: None }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        };
        let resource = typed::resource::<Event>();
        let at = At { resource: &resource, namespace: &namespace, name: "", subresource: "" };
        let created = match typed::tree(&event) {
            Ok(tree) => self.writer.create(at, &tree).await.map_err(|s| s.to_string()),
            Err(e) => Err(e.to_string()),
        };
        match created {
            Ok(_) => Some(Series { namespace, name, count }),
            Err(error) => {
                tracing::debug!(error, "event not written");
                None
            }
        }
    }
}
