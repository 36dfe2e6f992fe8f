//! The pods of a workload, as its controller counts them.

use crate::rows::PodRow;
use kybern_api::object::Object;
use kybern_client::store::Item;

/// A pod and its row.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(crate) object: &'a Object,
    pub(crate) row: &'a PodRow,
}

impl<'a> Member<'a> {
    /// None where the informer makes no rows, which the table of rows rules out for pods.
    pub(crate) fn of(item: &'a Item) -> Option<Self> {
        Some(Self { object: &item.object, row: item.row()? })
    }
    /// Does it run, or will it?
    pub(crate) fn is_active(&self) -> bool {
        !self.row.phase.is_terminal() && !self.is_deleting()
    }
    pub(crate) fn is_deleting(&self) -> bool {
        self.object.head.deleting.is_some()
    }
    /// Is it being deleted while it still runs?
    pub(crate) fn is_terminating(&self) -> bool {
        self.is_deleting() && !self.row.phase.is_terminal()
    }
}

/// How many there are, as a status counts.
pub(crate) fn count<T>(items: impl IntoIterator<Item = T>, test: impl Fn(&T) -> bool) -> i32 {
    i32::try_from(items.into_iter().filter(|i| test(i)).count()).unwrap_or(i32::MAX)
}

/// Zero counts are left out, as in Kubernetes' own objects.
pub(crate) fn some(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}
