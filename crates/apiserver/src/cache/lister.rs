//! The caches as authorisation and admission see them.

use crate::registry::kinds::Kinds;
use kybern_api::object::Object;
use kybern_api::seam::Lister;

impl Lister for Kinds {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        let kind = self.resource(group, resource)?;
        kind.cache.get(kind.cache.keys().suffix(namespace, name).as_bytes())
    }

    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Object> {
        let Some(kind) = self.resource(group, resource) else { return Vec::new() };
        let prefix = kind.cache.keys().namespace(namespace);
        kind.cache.snapshot(0).range(&prefix, None).map(|(_, o)| o.clone()).collect()
    }

    fn changed_at(&self, group: &str, resource: &str) -> u64 {
        self.resource(group, resource).map_or(0, |k| k.cache.changed_at())
    }
}
