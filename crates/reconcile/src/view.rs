//! What a plan sees: snapshots of the controller's informers, and the time.

use crate::Error;
use jiff::Timestamp;
use k8s_openapi::Resource as Kind;
use kybern_client::informer::Informer;
use kybern_client::store::{Item, Name, Store};
use kybern_client::transport::Resource;
use std::cell::OnceCell;
use std::sync::Arc;

/// Read-only snapshots of several resources. A resource is snapshotted when it is first looked at.
pub struct View {
    sources: Arc<[Source]>,
    taken: Box<[OnceCell<Store>]>,
}

/// Where a resource's objects come from.
pub enum Source {
    /// A running informer.
    Live(Arc<Informer>),
    /// A fixed world.
    Fixed(Resource, Store),
}

impl Source {
    fn resource(&self) -> &Resource {
        match self {
            Self::Live(informer) => informer.resource(),
            Self::Fixed(resource, _) => resource,
        }
    }
    fn store(&self) -> Store {
        match self {
            Self::Live(informer) => informer.store(),
            Self::Fixed(_, store) => store.clone(),
        }
    }
}

/// An absent resource reads as this.
static NOTHING: std::sync::LazyLock<Store> = std::sync::LazyLock::new(Store::default);

impl View {
    /// A view of these sources.
    pub fn new(sources: Arc<[Source]>) -> Self {
        let taken = sources.iter().map(|_| OnceCell::new()).collect();
        Self { sources, taken }
    }
    /// The store of a resource by group and plural; empty if the controller does not watch it.
    pub fn store(&self, group: &str, plural: &str) -> &Store {
        let at = self.sources.iter().position(|s| s.resource().plural == plural && s.resource().group == group);
        at.map_or(&NOTHING, |i| self.taken[i].get_or_init(|| self.sources[i].store()))
    }
    /// The store of a typed kind.
    pub fn of<K: Kind>(&self) -> &Store {
        self.store(K::GROUP, K::URL_PATH_SEGMENT)
    }
    /// Every resource with its store.
    pub fn all(&self) -> impl Iterator<Item = (&Resource, &Store)> {
        self.sources.iter().zip(&self.taken).map(|(s, t)| (s.resource(), t.get_or_init(|| s.store())))
    }
    /// One object of a typed kind.
    pub fn get<K: Kind>(&self, namespace: &str, name: &str) -> Option<&Item> {
        self.of::<K>().get(&Name::new(namespace, name))
    }
    /// One object of a typed kind, decoded.
    ///
    /// # Errors
    /// When the stored object does not fit the type.
    pub fn find<K: Kind + serde::de::DeserializeOwned>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error> {
        self.get::<K>(namespace, name).map(decode).transpose()
    }
}

/// Decodes an item; the caller drops the result after use.
///
/// # Errors
/// When the stored object does not fit the type.
pub fn decode<T: serde::de::DeserializeOwned>(item: &Item) -> Result<T, Error> {
    item.object.view().map_err(|e| Error::Decode(item.object.head.key(), e))
}

/// Everything a plan may depend on.
pub struct World<'a> {
    /// The objects.
    pub view: &'a View,
    /// Wall-clock time, for what is written into objects and compared with it.
    pub now: Timestamp,
    /// Time that never jumps, for how long ago something was observed here.
    pub steady: Timestamp,
    /// What went wrong when the previous plan of this key was carried out.
    pub failure: Option<&'a str>,
}

impl World<'_> {
    /// The wall-clock time as objects store it: whole seconds.
    pub fn time(&self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(whole_seconds(self.now))
    }
}

/// Cuts off the fraction of a second.
pub fn whole_seconds(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}
