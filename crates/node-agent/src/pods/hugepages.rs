//! Huge pages: what the machine has of them, what they are called, and what pods may use.

use super::spec;
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{Container, Pod};
use kybern_api::meta::quantity::Quantity;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Before a page size, the name of a resource.
pub const PREFIX: &str = "hugepages-";
/// The medium of a volume on huge pages; a page size may follow.
const MEDIUM: &str = "HugePages";

/// The resource of pages of so many bytes: `hugepages-2Mi`.
pub fn resource(size: i64) -> String {
    format!("{PREFIX}{}", Quantity::from_bytes(size))
}

/// The page size of a resource.
pub fn page_size(resource: &str) -> Option<i64> {
    resource.strip_prefix(PREFIX)?.parse::<Quantity>().ok().map(Quantity::value).filter(|size| *size > 0)
}

/// A page size as the kernel's cgroups call it: `2MB`.
pub fn kernel_name(size: i64) -> String {
    let mut units = ["B", "KB", "MB", "GB", "TB", "PB"].into_iter();
    let (mut size, mut unit) = (size, units.next().unwrap_or_default());
    while size >= 1024 && size % 1024 == 0 {
        let Some(next) = units.next() else { break };
        (size, unit) = (size / 1024, next);
    }
    format!("{size}{unit}")
}

/// What the machine has set aside: bytes by page size, also where that is none. `dir` is the kernel's
/// `/sys/kernel/mm/hugepages`.
pub fn probe(dir: &Path) -> BTreeMap<i64, i64> {
    // A kernel without huge pages has no such directory.
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let name = entry.file_name();
        let kib: i64 = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix("kB")?.parse().ok()?;
        let size = kib.checked_mul(1024).filter(|size| *size > 0)?;
        let count: i64 = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
        Some((size, count.saturating_mul(size)))
    });
    found.collect()
}

/// What a container may use, by page size.
pub fn of_container(c: &Container) -> BTreeMap<i64, i64> {
    let requests = c.resources.iter().flat_map(|r| r.requests.iter().flatten());
    let bytes = |q: &str| q.parse::<Quantity>().ok().map(Quantity::value);
    requests.filter_map(|(name, q)| Some((page_size(name)?, bytes(&q.0)?))).collect()
}

/// The mount option that gives a volume on huge pages its page size; None for other media.
///
/// # Errors
/// When it is not clear which size, or no container asks for such pages.
pub fn mount_option(medium: &str, pod: &Pod) -> Result<Option<String>> {
    let Some(suffix) = medium.strip_prefix(MEDIUM) else { return Ok(None) };
    let named = suffix.strip_prefix('-').map(|size| size.parse::<Quantity>().map(Quantity::value));
    let named = named.transpose().map_err(|_| Error::Pod(format!("medium {medium} names no page size")))?;
    let containers = pod.spec.iter().flat_map(|s| spec::declared(s).map(|(c, _)| c));
    let mut sizes: BTreeSet<i64> = containers.flat_map(|c| of_container(c).into_keys()).collect();
    if let Some(named) = named {
        sizes.retain(|size| *size == named);
    }
    let mut sizes = sizes.into_iter();
    match (sizes.next(), sizes.next()) {
        (Some(size), None) => Ok(Some(format!("pagesize={}", kernel_name(size).trim_end_matches('B')))),
        (Some(_), Some(_)) => {
            let why = format!("medium: {medium} can't be used if container requests multiple huge page sizes");
            Err(Error::Pod(why))
        }
        (None, _) => {
            let lack = "hugePages storage requested, but there is no resource request for huge pages";
            Err(Error::Pod(format!("medium {medium}: {lack}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MIB: i64 = 1 << 20;

    #[test]
    fn pages_have_two_names() {
        for (size, name, kernel) in [
            (64 << 10, "hugepages-64Ki", "64KB"),
            (2 * MIB, "hugepages-2Mi", "2MB"),
            (512 * MIB, "hugepages-512Mi", "512MB"),
            (1 << 30, "hugepages-1Gi", "1GB"),
        ] {
            assert_eq!((resource(size).as_str(), kernel_name(size).as_str()), (name, kernel));
            assert_eq!(page_size(name), Some(size));
        }
        assert_eq!((page_size("cpu"), page_size("hugepages-x"), page_size("hugepages-0")), (None, None, None));
    }

    #[test]
    fn the_machine_tells_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        for (name, count) in [("hugepages-2048kB", "8\n"), ("hugepages-1048576kB", "0\n"), ("hugepages-bad", "1\n")] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("nr_hugepages"), count).unwrap();
        }
        assert_eq!(probe(dir.path()), [(2 * MIB, 16 * MIB), (1 << 30, 0)].into());
        assert_eq!(probe(&dir.path().join("none")), BTreeMap::new());
    }

    #[test]
    fn a_volume_has_the_page_size_that_containers_ask_for() {
        let pod = |requests: serde_json::Value| -> Pod {
            let c = json!({"name": "a", "resources": {"requests": requests}});
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [c]}})).unwrap()
        };
        let small = json!({"hugepages-2Mi": "4Mi"});
        let both = json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"});
        let option = |medium: &str, requests: &serde_json::Value| {
            mount_option(medium, &pod(requests.clone())).map_err(|e| e.to_string())
        };
        let ok = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(option("HugePages", &small), ok("pagesize=2M"));
        assert_eq!(option("HugePages-1Gi", &both), ok("pagesize=1G"));
        assert_eq!(option("Memory", &small), Ok(None));
        let why = option("HugePages", &both).unwrap_err();
        assert_eq!(why, "medium: HugePages can't be used if container requests multiple huge page sizes");
        let none = "hugePages storage requested, but there is no resource request for huge pages";
        assert_eq!(option("HugePages-1Gi", &small).unwrap_err(), format!("medium HugePages-1Gi: {none}"));
    }
}
