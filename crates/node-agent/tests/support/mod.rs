//! What the tests on a real containerd share: a node in a temporary directory and a network namespace
//! of its own, and a small image made from Debian's busybox.

pub mod api;

use kybern_node_agent::config::Paths;
use kybern_node_agent::images::archive::{self, layer};
use kybern_node_agent::images::import::Importer;
use kybern_node_agent::net::link::Links;
use kybern_node_agent::runtime::containerd::{Containerd, find_program};
use kybern_node_agent::teardown;
use std::path::Path;

/// The test image.
pub const BUSYBOX: &str = "test.local/busybox:1";

/// Runs `test` with a fresh node, then takes the node down and checks that nothing of it is left.
///
/// The test has a thread of its own, because a network namespace belongs to a thread.
pub fn on_a_node<F, T>(name: &str, test: T)
where
    T: FnOnce(Paths, String) -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    if find_program("containerd").is_none() {
        eprintln!("SKIPPED: containerd is not installed");
        return;
    }
    let cgroup_root = format!("/kybern-test/{name}-{}", std::process::id());
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace of its own");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let dir = tempfile::Builder::new().prefix("kt-").tempdir().expect("directory");
        let paths = Paths::new(&dir.path().join("d"), &dir.path().join("s"));
        runtime.block_on(async {
            Links::open().expect("netlink").set_up("lo").await.expect("loopback");
            let local = tokio::task::LocalSet::new();
            let outcome = local
                .run_until(async {
                    let body = tokio::task::spawn_local(test(paths.clone(), cgroup_root.clone()));
                    body.await
                })
                .await;
            teardown::teardown(&paths, &cgroup_root).await.expect("teardown");
            if let Err(e) = outcome {
                let log = std::fs::read_to_string(paths.containerd_log()).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                panic!("{e}\ncontainerd's last lines, latest first:\n{}", tail.join("\n"));
            }
            assert_nothing_left(dir.path(), &cgroup_root);
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn assert_nothing_left(dir: &Path, cgroup_root: &str) {
    assert_eq!(teardown::mounts_below(&[dir]), Vec::<std::path::PathBuf>::new(), "mounts left");
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
        let left = hierarchy.path().join(&cgroup_root[1..]);
        assert!(!left.exists(), "cgroup left: {}", left.display());
    }
    let dir = dir.as_os_str().as_encoded_bytes();
    for process in std::fs::read_dir("/proc").expect("proc").flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let ours = command.windows(dir.len()).any(|w| w == dir);
        assert!(!ours, "process left: {}", String::from_utf8_lossy(&command));
    }
}

/// Imports an image whose file system is busybox alone.
pub async fn import_busybox(containerd: &Containerd, dir: &Path) {
    let path = dir.join("busybox.tar");
    std::fs::write(&path, busybox_archive(BUSYBOX)).expect("archive");
    let bundle = archive::open(&path, &dir.join("scratch")).expect("bundle");
    let names = Importer::new(containerd.channel()).import(&bundle, &containerd.cri(), "test").await.expect("import");
    assert_eq!(names, [BUSYBOX]);
}

/// A `docker save` archive of an image of this name, whose file system is busybox alone.
pub fn busybox_archive(name: &str) -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let rootfs = layer(&[
        ("bin/busybox", 0o755, &busybox),
        ("bin/sh", 0o755, b"#!/bin/busybox sh\nexec /bin/busybox sh \"$@\"\n"),
        ("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
        ("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n"),
        ("tmp/.keep", 0o644, b""),
    ]);
    let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["{name}"],"Layers":["layer.tar"]}}]"#);
    let digest = archive::digest_of(&rootfs);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["PATH=/bin"]}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
    );
    layer(&[
        ("c.json", 0o644, config.as_bytes()),
        ("layer.tar", 0o644, &rootfs),
        ("manifest.json", 0o644, manifest.as_bytes()),
    ])
}
