//! The supervised containerd, for real: start, import, run, die, be adopted, leave nothing.

#[expect(dead_code, reason = "this suite needs no API")]
mod support;

use kybern_node_agent::images::archive;
use kybern_node_agent::images::content::Content;
use kybern_node_agent::images::directory::Directory;
use kybern_node_agent::images::import::Importer;
use kybern_node_agent::runtime::Runtime;
use kybern_node_agent::runtime::containerd::{Containerd, Tell};
use kybern_node_agent::runtime::cri::Cri;
use kybern_node_agent::runtime::events::TaskChanged;
use kybern_wire::cri as pb;
use std::sync::Arc;
use std::time::Duration;
use support::{BUSYBOX, busybox_archive, import_busybox, on_a_node};
use tokio_util::sync::CancellationToken;

/// Where events go; images are nobody's business here.
fn tell(changes: tokio::sync::mpsc::Sender<TaskChanged>) -> Tell {
    Tell { changes, images: Arc::default() }
}

fn sandbox_config(cgroup_parent: &str, logs: &std::path::Path) -> pb::PodSandboxConfig {
    let node = pb::NamespaceOption { network: pb::NamespaceMode::Node.into(), ..Default::default() };
    pb::PodSandboxConfig {
        metadata: Some(pb::PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "n".into(), attempt: 0 }),
        log_directory: logs.display().to_string(),
        linux: Some(pb::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.into(),
            security_context: Some(pb::LinuxSandboxSecurityContext {
                namespace_options: Some(node),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container_config(command: &[&str]) -> pb::ContainerConfig {
    let node = pb::NamespaceOption { network: pb::NamespaceMode::Node.into(), ..Default::default() };
    pb::ContainerConfig {
        metadata: Some(pb::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(pb::ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
        command: command.iter().map(|s| (*s).to_owned()).collect(),
        log_path: "c/0.log".into(),
        linux: Some(pb::LinuxContainerConfig {
            security_context: Some(pb::LinuxContainerSecurityContext {
                namespace_options: Some(node),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn start_sleeper(cri: &Cri, cgroup: &str, logs: &std::path::Path) -> String {
    std::fs::create_dir_all(logs.join("c")).expect("log directory");
    let sandbox = sandbox_config(cgroup, logs);
    let id = cri.run_sandbox(sandbox.clone(), "").await.expect("sandbox");
    let command = container_config(&["/bin/busybox", "sleep", "1000"]);
    let container = cri.create_container(&id, command, sandbox).await.expect("container");
    cri.start_container(&container).await.expect("start");
    container
}

#[test]
fn containers_survive_containerd_and_the_agent() {
    on_a_node("survive", |paths, cgroup| async move {
        let mut containerd = Containerd::start(&paths).await.expect("containerd");
        containerd.ensure_pause_image().await.expect("pause image");
        import_busybox(&containerd, paths.data()).await;
        // Twice is fine.
        import_busybox(&containerd, paths.data()).await;
        let cri = containerd.cri();
        let container = start_sleeper(&cri, &cgroup, &paths.logs().join("p")).await;
        let echo = ["/bin/busybox", "echo", "hi"].map(str::to_owned);
        let answer = cri.exec_sync(&container, &echo, Duration::from_secs(10)).await.expect("exec");
        assert_eq!((answer.exit_code, &answer.stdout[..]), (0, &b"hi\n"[..]));

        // A crash: the supervisor starts it again, the container never stopped.
        let (changes, mut changed) = tokio::sync::mpsc::channel(16);
        let cancel = CancellationToken::new();
        let supervisor = tokio::spawn({
            let cancel = cancel.clone();
            async move {
                containerd.supervise(tell(changes), cancel).await;
                containerd
            }
        });
        assert_eq!(changed.recv().await.expect("subscribed").id, "");
        let pid: i32 = std::fs::read_to_string(paths.containerd_pid()).expect("pid").parse().expect("number");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("kill");
        let again = tokio::time::timeout(Duration::from_secs(60), changed.recv()).await.expect("restarted in time");
        assert_eq!(again.expect("event").id, "");
        let status = cri.container_status(&container).await.expect("status");
        assert_eq!(status.state(), pb::ContainerState::ContainerRunning);

        // An agent restart: the next one adopts the process.
        cancel.cancel();
        drop(supervisor.await.expect("supervisor"));
        let before = std::fs::read_to_string(paths.containerd_pid()).expect("pid");
        let mut adopted = Containerd::start(&paths).await.expect("adopt");
        assert_eq!(std::fs::read_to_string(paths.containerd_pid()).expect("pid"), before);
        let status = adopted.cri().container_status(&container).await.expect("status");
        assert_eq!(status.state(), pb::ContainerState::ContainerRunning);

        // An exit is told by an event.
        let (changes, mut changed) = tokio::sync::mpsc::channel(16);
        let cancel = CancellationToken::new();
        let waits = tokio::spawn({
            let cancel = cancel.clone();
            async move {
                adopted.supervise(tell(changes), cancel).await;
                adopted
            }
        });
        assert_eq!(changed.recv().await.expect("subscribed").id, "");
        cri.stop_container(&container, Duration::ZERO).await.expect("stop");
        let event =
            tokio::time::timeout(Duration::from_secs(10), changed.recv()).await.expect("in time").expect("event");
        assert_eq!(event.id, container);
        cancel.cancel();
        waits.await.expect("supervisor").stop().await;
        assert!(!paths.containerd_pid().exists());
    });
}

#[test]
fn content_is_read_from_anywhere_in_a_blob_and_images_that_come_are_told() {
    on_a_node("content", |paths, _| async move {
        let mut containerd = Containerd::start(&paths).await.expect("containerd");
        let cri = containerd.cri();
        let content = Content::new(containerd.channel());
        let (changes, mut changed) = tokio::sync::mpsc::channel(4);
        let (told, cancel) = (tell(changes), CancellationToken::new());
        let (images, stop) = (told.images.clone(), cancel.clone());
        let channel = containerd.channel();
        let supervisor = tokio::spawn(async move {
            containerd.supervise(told, stop).await;
            containerd
        });
        changed.recv().await.expect("subscribed");
        let path = paths.data().join("busybox.tar");
        std::fs::write(&path, busybox_archive(BUSYBOX)).expect("archive");
        // The subscription itself is answered only with its first event: what comes before may be missed.
        let news = async {
            loop {
                let bundle = archive::open(&path, &paths.data().join("scratch")).expect("open");
                Importer::new(channel.clone()).import(&bundle, &cri, "test").await.expect("import");
                if tokio::time::timeout(Duration::from_secs(1), images.notified()).await.is_ok() {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), news).await.expect("told in time");

        let image = cri.image(BUSYBOX).await.expect("image").expect("there");
        let digest = image.id;
        let size = content.size(&digest).await.expect("size").expect("a blob");
        let read = async |offset| {
            let mut parts = content.read(&digest, offset).await.expect("read");
            let mut bytes = Vec::new();
            while let Some(part) = parts.message().await.expect("part") {
                bytes.extend_from_slice(&part.data);
            }
            bytes
        };
        let whole = read(0).await;
        assert_eq!(whole.len() as u64, size);
        assert!(whole.starts_with(b"{"), "an image's id is the digest of its configuration");
        assert_eq!(read(5).await, whole[5..]);
        let missing = format!("sha256:{}", "0".repeat(64));
        assert_eq!(content.size(&missing).await.expect("asked"), None);
        assert_eq!(content.size("../../etc/passwd").await.expect("asked"), None);
        cancel.cancel();
        supervisor.await.expect("supervisor").stop().await;
    });
}

#[test]
fn archives_in_a_directory_are_imported_as_they_come() {
    on_a_node("directory", |paths, _| async move {
        let mut containerd = Containerd::start(&paths).await.expect("containerd");
        let cri: Arc<dyn Runtime> = Arc::new(containerd.cri());
        let dir = paths.data().join("images");
        std::fs::create_dir_all(&dir).expect("directory");
        std::fs::write(dir.join("bad.tar"), "no archive").expect("file");
        std::fs::write(dir.join("first.tar"), busybox_archive("test.local/first:1")).expect("file");
        let (changes, mut changed) = tokio::sync::mpsc::channel(4);
        let watched = |changes| Directory {
            dir: dir.clone(),
            record: paths.imported_images(),
            importer: Importer::new(containerd.channel()),
            runtime: cri.clone(),
            changes,
        };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(watched(changes.clone()).run(cancel.clone()));
        let mut news = async || {
            let told = tokio::time::timeout(Duration::from_secs(30), changed.recv()).await.expect("in time");
            assert_eq!(told.expect("event").id, "");
        };
        news().await;
        assert!(cri.image("test.local/first:1").await.expect("image").is_some());

        // Written elsewhere and moved here, as careful programs do.
        std::fs::write(paths.data().join("second"), busybox_archive("test.local/second:1")).expect("file");
        std::fs::rename(paths.data().join("second"), dir.join("second.tar")).expect("move");
        news().await;
        assert!(cri.image("test.local/second:1").await.expect("image").is_some());
        cancel.cancel();
        task.await.expect("task");

        // The next agent reads only what it has not: an image that was removed comes back.
        cri.remove_image("test.local/second:1").await.expect("remove");
        let cancel = CancellationToken::new();
        let task = tokio::spawn(watched(changes).run(cancel.clone()));
        news().await;
        assert!(cri.image("test.local/second:1").await.expect("image").is_some());
        assert!(!paths.data().join("images.scratch").exists(), "nothing is left of the reading");
        cancel.cancel();
        task.await.expect("task");
        containerd.stop().await;
    });
}
