//! APIService: hands a group and version to another server.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};
use crate::tree;

pub(super) fn row() -> KindDef {
    Row::new("apiregistration.k8s.io", "v1", "APIService", "apiservices")
        .cluster()
        .category("api-extensions")
        .status()
        .needs_revision()
        .columns([
            name(),
            computed("Service", "The service that answers.", |v| match tree::at(v.obj, "spec.service") {
                Some(s) => format!("{}/{}", tree::text(s, "namespace"), tree::text(s, "name")).into(),
                None => "Local".into(),
            }),
            computed("Available", "Whether it answers.", |v| match cells::condition(v.obj, "Available") {
                None => "Unknown".into(),
                Some(c) if tree::text(c, "status") == "True" => "True".into(),
                Some(c) => format!("{} ({})", tree::text(c, "status"), tree::text(c, "reason")).into(),
            }),
            age(),
        ])
        .withheld()
        .build()
}
