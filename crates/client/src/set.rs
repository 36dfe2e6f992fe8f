//! Informers shared by everything in a process: one per resource and selection.

use crate::informer::Informer;
use crate::store::RowFn;
use crate::transport::{Resource, Selection, Transport};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Makes informers on first demand and shares them. They stop when `cancel` fires.
#[derive(Clone)]
pub struct InformerSet {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Arc<dyn Transport>,
    cancel: CancellationToken,
    rows: HashMap<Resource, RowFn>,
    informers: Mutex<HashMap<(Resource, Selection), Arc<Informer>>>,
}

impl InformerSet {
    /// A set over one transport. `rows` says which resources get a row per object, and how.
    pub fn new(transport: Arc<dyn Transport>, rows: HashMap<Resource, RowFn>, cancel: CancellationToken) -> Self {
        Self { inner: Arc::new(Inner { transport, cancel, rows, informers: Mutex::default() }) }
    }

    /// The informer of a resource and selection, started now if nobody asked for it before.
    pub fn informer(&self, resource: &Resource, selection: &Selection) -> Arc<Informer> {
        let mut informers = self.inner.informers.lock();
        let key = (resource.clone(), selection.clone());
        Arc::clone(informers.entry(key).or_insert_with(|| {
            Informer::start(
                Arc::clone(&self.inner.transport),
                resource.clone(),
                selection.clone(),
                self.inner.rows.get(resource).cloned(),
                self.inner.cancel.clone(),
            )
        }))
    }

    /// The informer of all objects of a resource.
    pub fn all(&self, resource: &Resource) -> Arc<Informer> {
        self.informer(resource, &Selection::default())
    }
}
