//! The one thread that writes to the database, in order, as many jobs as wait in one synced batch.
//!
//! Votes and log entries are synced before their callbacks run. Rows of the state machine ride along
//! unsynced: they are in the log already, and since all families share one write-ahead log, whatever
//! is synced later (a purge of that log, above all) is synced after them.

use crate::columns::Family;
use crate::metrics::Metrics;
use bytes::Bytes;
use rocksdb::{DB, WriteBatch, WriteOptions};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Rows of one database write are merged up to about this many bytes.
const MERGE_LIMIT: usize = 8 << 20;

/// One change of the database.
#[derive(Debug)]
pub(crate) enum Row {
    Put(Family, Bytes, Bytes),
    Delete(Family, Bytes),
    /// From (inclusive) to (exclusive).
    DeleteRange(Family, Bytes, Bytes),
}

impl Row {
    fn size(&self) -> usize {
        match self {
            Row::Put(_, key, value) => key.len() + value.len(),
            Row::Delete(_, key) => key.len(),
            Row::DeleteRange(_, from, to) => from.len() + to.len(),
        }
    }
}

type Done = Box<dyn FnOnce() + Send>;

/// Rows that belong together.
struct Job {
    rows: Vec<Row>,
    sync: bool,
    done: Option<Done>,
}

/// The database and its writer. The writer ends, after all its jobs, when this is dropped.
pub(crate) struct Disk {
    db: Arc<DB>,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the writer.
    pub(crate) fn start(db: DB, metrics: Metrics) -> std::io::Result<Self> {
        let db = Arc::new(db);
        let (jobs, queue) = mpsc::channel();
        let writer = {
            let db = db.clone();
            std::thread::Builder::new().name("store-writer".into()).spawn(move || write_all(&db, &queue, &metrics))?
        };
        Ok(Self { db, jobs: Some(jobs), writer: Some(writer) })
    }

    /// For reads.
    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    /// A family's handle, for reads.
    pub(crate) fn family(&self, family: Family) -> std::io::Result<&rocksdb::ColumnFamily> {
        self.db.cf_handle(family.name()).ok_or_else(|| std::io::Error::other("a column family is missing"))
    }

    /// Queues rows, to be synced; `done` runs after that, on the writer's thread.
    pub(crate) fn write_synced(&self, rows: Vec<Row>, done: impl FnOnce() + Send + 'static) {
        self.queue(Job { rows, sync: true, done: Some(Box::new(done)) });
    }

    /// Writes rows and waits until they are synced.
    pub(crate) async fn sync(&self, rows: Vec<Row>) -> std::io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.write_synced(rows, move || {
            // Whoever waited may be gone.
            let _ = sender.send(());
        });
        receiver.await.map_err(|_| std::io::Error::other("the store's writer has ended"))
    }

    /// Queues rows that need no sync of their own.
    pub(crate) fn write_later(&self, rows: Vec<Row>) {
        self.queue(Job { rows, sync: false, done: None });
    }

    fn queue(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The writer outlives the sender, or the process has ended.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write_all(db: &DB, queue: &mpsc::Receiver<Job>, metrics: &Metrics) {
    while let Ok(first) = queue.recv() {
        let mut batch = WriteBatch::default();
        let mut sync = false;
        let mut done = Vec::new();
        let mut next = Some(first);
        let mut size = 0;
        while let Some(job) = next.take() {
            sync |= job.sync;
            size += job.rows.iter().map(Row::size).sum::<usize>();
            job.rows.into_iter().for_each(|row| add(db, &mut batch, row));
            done.extend(job.done);
            if size < MERGE_LIMIT {
                next = queue.try_recv().ok();
            }
        }
        let started = Instant::now();
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        if let Err(error) = db.write_opt(batch, &options) {
            end_process(&error);
        }
        if sync {
            metrics.synced(started.elapsed());
        }
        done.into_iter().for_each(|done| done());
    }
}

fn add(db: &DB, batch: &mut WriteBatch, row: Row) {
    let family = match &row {
        Row::Put(family, ..) | Row::Delete(family, _) | Row::DeleteRange(family, ..) => *family,
    };
    // All families are created when the database is opened.
    let Some(handle) = db.cf_handle(family.name()) else { return };
    match row {
        Row::Put(_, key, value) => batch.put_cf(handle, key, value),
        Row::Delete(_, key) => batch.delete_cf(handle, key),
        Row::DeleteRange(_, from, to) => batch.delete_range_cf(handle, from, to),
    }
}

/// Ends the process after a failed write or fsync.
///
/// After a failed fsync the kernel may have dropped the data and marked it clean: a retry would succeed
/// without it. Only a restart, which reads back what is really there, is safe. Nothing was acknowledged.
fn end_process(error: &rocksdb::Error) -> ! {
    tracing::error!(%error, "writing the store failed: ending the process");
    std::process::abort()
}
