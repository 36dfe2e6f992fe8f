//! The kinds this server serves: the built-in table, and room for those that appear at run time.

use crate::cache::feeder::Caches;
use crate::cache::kind::KindCache;
use crate::cache::window::Bounds;
use crate::registry::keys::Keys;
use crate::registry::seal::{Opener, Sealer};
use arc_swap::ArcSwap;
use kybern_api::kind::{KindDef, Served, Support};
use smol_str::SmolStr;
use std::collections::HashMap;
use std::sync::Arc;

/// A served kind with its storage.
pub struct Kind {
    /// What is known of it.
    pub def: Arc<KindDef>,
    /// Its objects; shared with the other row of the same storage, if there is one.
    pub cache: Arc<KindCache>,
    /// Reads and seals stored values.
    pub opener: Arc<Opener>,
    /// Number of the row, to tell the renditions of rows that share a storage apart.
    pub number: u32,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.def.group, self.def.plural)
    }
}

/// A kind in one served version: what a path names.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The kind.
    pub kind: Arc<Kind>,
    /// Index into the kind's served versions.
    pub version: usize,
}

impl Resource {
    /// The row.
    pub fn def(&self) -> &KindDef {
        &self.kind.def
    }
    /// The served version.
    pub fn served(&self) -> &Served {
        &self.kind.def.served[self.version]
    }
    /// Is it the stored form, so that stored bytes can be sent as they are?
    pub fn is_stored_form(&self) -> bool {
        self.served().from_stored.is_none()
    }
}

#[derive(Default)]
struct Table {
    by_group: HashMap<SmolStr, HashMap<SmolStr, Arc<Kind>>>,
    all: Vec<Arc<Kind>>,
}

/// All served kinds.
pub struct Kinds {
    table: ArcSwap<Table>,
    caches: Arc<Caches>,
    sealer: Arc<dyn Sealer>,
    bounds: Bounds,
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kinds").field("kinds", &self.table.load().all.len()).finish_non_exhaustive()
    }
}

impl Kinds {
    /// Serves the rows that are not withheld.
    pub fn new(rows: Vec<Arc<KindDef>>, caches: Arc<Caches>, sealer: Arc<dyn Sealer>, bounds: Bounds) -> Self {
        let kinds = Self { table: ArcSwap::default(), caches, sealer, bounds };
        // Rows that own their storage first: the others refer to them.
        let (owners, guests): (Vec<_>, Vec<_>) = rows.into_iter().partition(|r| r.storage.is_none());
        for def in owners.into_iter().chain(guests).filter(|d| d.support != Support::Withheld) {
            kinds.add(def);
        }
        kinds
    }

    /// Serves one more kind. Its cache is filled when the feeder loads.
    pub fn add(&self, def: Arc<KindDef>) {
        let (group, plural) = def.storage.clone().unwrap_or_else(|| (def.group.clone(), def.plural.clone()));
        let keys = Keys::new(&group, &plural, def.namespaced());
        let opener = Arc::new(Opener::new(def.clone(), self.sealer.clone()));
        let cache = self.caches.find(keys.prefix()).unwrap_or_else(|| {
            let cache = Arc::new(KindCache::new(keys, self.bounds));
            self.caches.add(cache.clone(), opener.clone());
            cache
        });
        self.table.rcu(|t| {
            let mut t = Table { by_group: t.by_group.clone(), all: t.all.clone() };
            let number = u32::try_from(t.all.len()).unwrap_or(u32::MAX);
            let kind = Arc::new(Kind { def: def.clone(), cache: cache.clone(), opener: opener.clone(), number });
            t.by_group.entry(def.group.clone()).or_default().insert(def.plural.clone(), kind.clone());
            t.all.push(kind);
            t
        });
    }

    /// The resource a path names.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Resource> {
        let kind = self.resource(group, plural)?;
        let version = kind.def.served.iter().position(|s| s.version == version)?;
        Some(Resource { kind, version })
    }

    /// A kind by group and plural.
    pub fn resource(&self, group: &str, plural: &str) -> Option<Arc<Kind>> {
        self.table.load().by_group.get(group)?.get(plural).cloned()
    }

    /// Every served kind, in the order of the table.
    pub fn all(&self) -> Vec<Arc<Kind>> {
        self.table.load().all.clone()
    }
}
