//! The metrics API: what nodes and pods use now. Its kinds are served where metrics are on; nothing of
//! them is stored, so they stand beside the table of kinds.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, name};

/// The group.
pub const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
const VERBS: [&str; 2] = ["get", "list"];

/// Its rows.
pub fn rows() -> Vec<KindDef> {
    let nodes = Row::new(GROUP, VERSION, "NodeMetrics", "nodes").cluster();
    let pods = Row::new(GROUP, VERSION, "PodMetrics", "pods");
    [nodes, pods].map(|row| row.verbs(&VERBS).columns([name(), age()]).build()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_only_and_not_in_the_table() {
        for row in rows() {
            assert_eq!(row.verbs, VERBS, "{}", row.kind);
            assert!(crate::kinds::find(GROUP, &row.plural).is_none(), "{}", row.kind);
        }
    }
}
