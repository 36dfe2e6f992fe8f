//! Prefers nodes that already have the pod's images, large ones above all, and the more so the more
//! nodes have them: an image that only one node has must not draw every pod there.

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
    fn normalize(&self) -> Normalize {
        Normalize::AsIs
    }
    fn prepare<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot, _: &[usize]) -> Option<ScoreFn<'a>> {
        let containers = i64::try_from(pod.images.len()).ok().filter(|n| *n > 0)?;
        let spread: Vec<_> =
            pod.images.iter().map(|i| (i, snapshot.image_spread(i))).filter(|(_, nodes)| *nodes > 0).collect();
        if spread.is_empty() {
            return None;
        }
        let most = MOST * containers;
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "sizes for a rating")]
        let scaled = move |size: i64, nodes: u32| (size as f64 * (f64::from(nodes) / snapshot.len() as f64)) as i64;
        Some(Box::new(move |slot| {
            let Some(node) = snapshot.node(slot) else { return 0 };
            let present = spread.iter().filter_map(|(image, nodes)| Some(scaled(*node.images.get(*image)?, *nodes)));
            100 * (present.fold(0_i64, i64::saturating_add).clamp(LEAST, most) - LEAST) / (most - LEAST)
        }))
    }
}
