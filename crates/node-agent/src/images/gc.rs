//! Which images to remove: those that nothing uses, the longest unused first, until enough is free.

use super::reference;
use crate::node::capacity::Disk;
use crate::runtime::Runtime;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kybern_wire::cri as pb;
use std::collections::{BTreeMap, BTreeSet};

/// An image that was just pulled is about to be used.
const LEAST_AGE: SignedDuration = SignedDuration::from_secs(120);

/// When each image was last seen in use (or first seen at all), by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastUsed(BTreeMap<String, Timestamp>);

impl LastUsed {
    /// Notes what is there and what of it is in use.
    pub fn note(&mut self, images: &[pb::Image], in_use: &BTreeSet<String>, now: Timestamp) {
        self.0.retain(|id, _| images.iter().any(|i| i.id == *id));
        for image in images {
            let seen = self.0.entry(image.id.clone()).or_insert(now);
            if uses(in_use, image) {
                *seen = now;
            }
        }
    }
}

/// Does a container run from this image? Containers name it by id, tag or digest.
fn uses(in_use: &BTreeSet<String>, image: &pb::Image) -> bool {
    in_use.contains(&image.id) || image.repo_tags.iter().chain(&image.repo_digests).any(|n| in_use.contains(n))
}

/// Is it the node's own, without which no pod starts?
fn is_kept(image: &pb::Image) -> bool {
    image.pinned || image.repo_tags.iter().any(|t| t == crate::runtime::pause::IMAGE)
}

/// The bytes to free on a disk that is fuller than `high` percent, to get below `low`; 0: it is not.
pub fn needed(disk: Disk, (high, low): (u8, u8)) -> i64 {
    let (used, share) = (disk.size - disk.free, |percent: u8| disk.size / 100 * i64::from(percent));
    if used > share(high) { used - share(low) } else { 0 }
}

/// The images to remove so that `needed` bytes get free, in order; all that nothing uses, where that is
/// not enough.
pub fn choose<'a>(
    images: &'a [pb::Image],
    in_use: &BTreeSet<String>,
    last: &LastUsed,
    needed: i64,
    now: Timestamp,
) -> Vec<&'a pb::Image> {
    let since = |image: &pb::Image| last.0.get(&image.id).copied().unwrap_or(now);
    let mut unused: Vec<&pb::Image> = images
        .iter()
        .filter(|i| !is_kept(i) && !uses(in_use, i) && now.duration_since(since(i)) >= LEAST_AGE)
        .collect();
    unused.sort_by_key(|i| (since(i), i.id.clone()));
    let mut freed = 0i64;
    unused
        .into_iter()
        .take_while(|i| {
            let wanted = freed < needed;
            freed = freed.saturating_add(i64::try_from(i.size).unwrap_or(i64::MAX));
            wanted
        })
        .collect()
}

/// Every image that nothing uses (for `kybern image prune`).
///
/// # Errors
/// When the runtime does not answer.
pub async fn unused(runtime: &dyn Runtime) -> crate::error::Result<Vec<pb::Image>> {
    let in_use = in_use(runtime).await?;
    let images = runtime.images().await?;
    Ok(images.into_iter().filter(|i| !is_kept(i) && !uses(&in_use, i)).collect())
}

/// What the node's containers name as their images.
///
/// # Errors
/// When the runtime does not answer.
pub async fn in_use(runtime: &dyn Runtime) -> crate::error::Result<BTreeSet<String>> {
    let containers = runtime.containers(None).await?;
    Ok(containers.into_iter().flat_map(|c| [c.image_ref, c.image.map(|i| i.image).unwrap_or_default()]).collect())
}

/// What a pod names as images to mount: no container runs from them.
pub fn volumes(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let named = volumes.filter_map(|v| v.image.as_ref()?.reference.as_deref());
    named.filter_map(reference::normalise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, size: u64) -> pb::Image {
        pb::Image { id: id.into(), size, repo_tags: vec![format!("r.x/{id}:1")], ..Default::default() }
    }
    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_longest_unused_go_first_and_no_more_than_needed() {
        let images = [image("old", 10), image("older", 10), image("used", 10), image("new", 10)];
        let in_use = BTreeSet::from(["r.x/used:1".to_owned()]);
        let mut last = LastUsed::default();
        last.note(&images[1..2], &in_use, at(0));
        last.note(&images[..3], &in_use, at(100));
        last.note(&images, &in_use, at(500));
        let chosen =
            |needed| choose(&images, &in_use, &last, needed, at(501)).iter().map(|i| i.id.as_str()).collect::<Vec<_>>();
        assert_eq!(chosen(1), ["older"]);
        assert_eq!(chosen(11), ["older", "old"]);
        assert_eq!(chosen(1000), ["older", "old"], "what is used or new stays");
        assert!(chosen(0).is_empty());
    }

    #[test]
    fn an_image_that_is_only_a_volume_is_in_use() {
        let pod = serde_json::json!({"metadata": {}, "spec": {"containers": [], "volumes": [
            {"name": "v", "image": {"reference": "r.x/volume:1"}}, {"name": "e", "emptyDir": {}}]}});
        let in_use: BTreeSet<String> = volumes(&serde_json::from_value(pod).unwrap()).into_iter().collect();
        let images = [image("volume", 10), image("other", 10)];
        let mut last = LastUsed::default();
        last.note(&images, &BTreeSet::new(), at(0));
        let chosen: Vec<_> = choose(&images, &in_use, &last, 99, at(999)).iter().map(|i| i.id.as_str()).collect();
        assert_eq!(chosen, ["other"]);
    }

    #[test]
    fn a_full_disk_is_emptied_to_the_lower_mark() {
        let disk = |free| Disk { size: 1000, free, ..Disk::default() };
        assert_eq!([150, 149, 0].map(|free| needed(disk(free), (85, 80))), [0, 51, 200]);
        assert_eq!(needed(disk(0), (100, 80)), 0);
    }

    #[test]
    fn the_nodes_own_image_stays() {
        let mut pause = image("pause", 1);
        pause.repo_tags = vec![crate::runtime::pause::IMAGE.into()];
        let images = [pause, pb::Image { pinned: true, ..image("pinned", 1) }];
        let mut last = LastUsed::default();
        last.note(&images, &BTreeSet::new(), at(0));
        assert!(choose(&images, &BTreeSet::new(), &last, 99, at(9999)).is_empty());
    }
}
