//! Kinds of the batch group.

mod cron_job;
mod job;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![cron_job::row(), job::row()]
}
