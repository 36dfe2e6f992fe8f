//! Objects for unit tests.

use kybern_api::object::Object;
use kybern_api::seam::Lister;

/// A world without objects.
pub(crate) struct NoObjects;

impl Lister for NoObjects {
    fn get(&self, _group: &str, _resource: &str, _namespace: &str, _name: &str) -> Option<Object> {
        None
    }
    fn list(&self, _group: &str, _resource: &str, _namespace: Option<&str>) -> Vec<Object> {
        Vec::new()
    }
    fn changed_at(&self, _group: &str, _resource: &str) -> u64 {
        0
    }
}
