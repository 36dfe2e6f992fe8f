//! Prefers nodes that already have the pod's images, large ones above all.

use crate::framework::{Normalize, Score, ScoreFn};
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// Below this an image is fetched too quickly to matter; per container, above [`MOST`] it is enough.
const LEAST: i64 = 23 << 20;
const MOST: i64 = 1000 << 20;

pub(super) struct ImageLocality;

impl Score for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }
    fn weight(&self) -> i64 {
        1
    }
    fn normalize(&self) -> Normalize {
        Normalize::AsIs
    }
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        let containers = i64::try_from(pod.images.len()).ok().filter(|n| *n > 0)?;
        let most = MOST * containers;
        Some(Box::new(move |slot| {
            let Some(node) = snapshot.node(slot) else { return 0 };
            let present: i64 = pod.images.iter().filter_map(|i| node.images.get(i)).sum();
            100 * (present.clamp(LEAST, most) - LEAST) / (most - LEAST)
        }))
    }
}
