//! What the kinds that hold a pod template share.

use super::cells;
use super::row::{computed, count};
use crate::kind::{Causes, Column};
use crate::tree;
use crate::validate::{self, Field};

/// The two wide columns of a kind with its template at `spec.template`.
pub(super) fn containers() -> [Column; 2] {
    [
        computed("Containers", "Names of the template's containers.", |v| {
            cells::column_of(tree::list(v.obj, "spec.template.spec.containers"), "name", "")
        })
        .wide(),
        computed("Images", "Images of the template's containers.", |v| {
            cells::column_of(tree::list(v.obj, "spec.template.spec.containers"), "image", "")
        })
        .wide(),
    ]
}

/// How many replicas are wanted, are there and are ready.
pub(super) fn replicas() -> [Column; 3] {
    [count("Desired", "spec.replicas"), count("Current", "status.replicas"), count("Ready", "status.readyReplicas")]
}

/// Ready replicas of those wanted.
pub(super) fn ready() -> Column {
    computed("Ready", "Ready pods of those wanted.", |v| {
        let number = |path: &str| tree::int(v.obj, path).unwrap_or_default();
        format!("{}/{}", number("status.readyReplicas"), number("spec.replicas")).into()
    })
}

/// The wide column of a LabelSelector at `spec.selector`.
pub(super) fn selector() -> Column {
    computed("Selector", "Which pods belong to the object.", |v| cells::selector(tree::at(v.obj, "spec.selector")))
        .wide()
}

/// Checks the status of a ReplicaSet or ReplicationController.
pub(super) fn replica_status(status: &Field<'_, '_>, out: &mut Causes) {
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    validate::counts(status, &["replicas"], out);
    validate::counts(status, &parts, out);
    validate::counts(status, &["terminatingReplicas", "observedGeneration"], out);
    validate::parts(status, &parts, "replicas", "status.replicas", out);
    validate::parts(status, &["availableReplicas"], "readyReplicas", "readyReplicas", out);
}
