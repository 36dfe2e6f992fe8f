//! Images from a private registry: Debian's docker-registry with TLS and a password, inside each
//! node's network namespace. Needs DOCKER_REGISTRY (the program) and a dev cluster.

use kybern_e2e::{Namespace, Scratch, ensure, eventually, shell};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// bcrypt of "allmine", from the test vectors of Go's own package.
const HTPASSWD: &str = "tester:$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga\n";
const REGISTRY: &str = "127.0.0.1:5443";

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn digest(path: &Path) -> String {
    run("sha256sum", &[path.to_str().expect("UTF-8")]).split(' ').next().unwrap_or_default().to_owned()
}

/// Lays an image of one layer out as the registry keeps it; where in `root` the layer is.
fn lay_out(scratch: &Scratch, root: &Path) -> PathBuf {
    let (layer, config) = (PathBuf::from(scratch.file("layer.tar")), PathBuf::from(scratch.file("config.json")));
    let tree = PathBuf::from(scratch.file("rootfs"));
    std::fs::create_dir_all(tree.join("bin")).expect("bin");
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox");
    std::fs::copy("/bin/busybox", tree.join("bin/sh")).expect("sh");
    run("tar", &["-C", tree.to_str().expect("UTF-8"), "-cf", layer.to_str().expect("UTF-8"), "."]);
    let diff = format!("sha256:{}", digest(&layer));
    let image = json!({ "architecture": "amd64", "os": "linux", "config": { "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [diff] } });
    std::fs::write(&config, image.to_string()).expect("config");
    let describe = |path: &Path, kind: &str| {
        let size = std::fs::metadata(path).expect("size").len();
        json!({ "mediaType": kind, "size": size, "digest": format!("sha256:{}", digest(path)) })
    };
    const KIND: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": KIND,
        "config": describe(&config, "application/vnd.docker.container.image.v1+json"),
        "layers": [describe(&layer, "application/vnd.docker.image.rootfs.diff.tar")] });
    let manifest_path = PathBuf::from(scratch.file("manifest.json"));
    std::fs::write(&manifest_path, manifest.to_string()).expect("manifest");
    let (base, of_manifest) = (root.join("docker/registry/v2"), digest(&manifest_path));
    let repository = base.join("repositories/private/tool");
    for path in [&layer, &config, &manifest_path] {
        let hash = digest(path);
        let blob = base.join("blobs/sha256").join(&hash[..2]).join(&hash);
        std::fs::create_dir_all(&blob).expect("blob");
        std::fs::copy(path, blob.join("data")).expect("data");
        link(&repository.join("_layers/sha256").join(&hash), &hash);
    }
    link(&repository.join("_manifests/revisions/sha256").join(&of_manifest), &of_manifest);
    link(&repository.join("_manifests/tags/1/current"), &of_manifest);
    link(&repository.join("_manifests/tags/1/index/sha256").join(&of_manifest), &of_manifest);
    let hash = digest(&layer);
    PathBuf::from("docker/registry/v2/blobs/sha256").join(&hash[..2]).join(&hash)
}

fn link(dir: &Path, hash: &str) {
    std::fs::create_dir_all(dir).expect("directory");
    std::fs::write(dir.join("link"), format!("sha256:{hash}")).expect("link");
}

/// The registry; it ends with this value.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What all registries share: an authority of their own, and who may in.
fn prepare(scratch: &Scratch) {
    let (cert, key) = (scratch.file("ca.pem"), scratch.file("key.pem"));
    let subject = ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"];
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", &key, "-out", &cert];
    run("openssl", &[&request[..], &subject].concat());
    std::fs::write(scratch.file("htpasswd"), HTPASSWD).expect("users");
}

/// A registry with this storage on a node.
fn start(program: &str, scratch: &Scratch, root: &Path, node: &str, cluster: &str) -> Registry {
    let (cert, key, users) = (scratch.file("ca.pem"), scratch.file("key.pem"), scratch.file("htpasswd"));
    let config = format!(
        "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: {REGISTRY}, \
         tls: {{ certificate: {cert}, key: {key} }} }}\nauth: {{ htpasswd: {{ realm: test, path: {users} }} }}\n",
        root.display()
    );
    let path = scratch.file(&format!("{node}.yml"));
    std::fs::write(&path, config).expect("configuration");
    let child = Command::new("nsenter")
        .args([&format!("--net={}", netns(cluster, node)), program, "serve", &path])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Registry(child.expect("nsenter"))
}

/// Lets a node believe the registries' authority.
fn trust(scratch: &Scratch, node: &str, cluster: &str, kybern: &str) {
    let host = PathBuf::from("/var/lib/kybern/dev").join(cluster).join(node);
    let settings = format!("configs:\n  \"{REGISTRY}\":\n    tls: {{ ca_file: {} }}\n", scratch.file("ca.pem"));
    std::fs::write(host.join("registries.yaml"), settings).expect("registry settings");
    run(kybern, &["dev", "kill", node, "--name", cluster]);
}

/// A pod on the node that pulls with a secret of its own name.
fn pull(ns: &Namespace, name: &str, secret: &str, node: &str) {
    let image = format!("image: {REGISTRY}/private/tool:1\n    imagePullPolicy: Always");
    let manifest = shell(name, "exec /bin/busybox echo it works").replace("image: kybern.local/web:1", &image);
    let spec = format!("spec:\n  nodeName: {node}\n  imagePullSecrets: [{{ name: {secret} }}]\n");
    ns.apply(&manifest.replacen("spec:\n", &spec, 1));
}

#[test]
fn a_private_registry_wants_the_password_and_other_nodes_have_its_layers() {
    let (Ok(program), Ok(cluster), Ok(kybern)) =
        (std::env::var("DOCKER_REGISTRY"), std::env::var("KYBERN_NAME"), std::env::var("KYBERN"))
    else {
        return eprintln!("skipped: needs DOCKER_REGISTRY and a dev cluster");
    };
    let scratch = Scratch::new("registry");
    prepare(&scratch);
    let (whole, robbed) = (PathBuf::from(scratch.file("storage")), PathBuf::from(scratch.file("robbed")));
    let layer = lay_out(&scratch, &whole);
    run("cp", &["-a", whole.to_str().expect("UTF-8"), robbed.to_str().expect("UTF-8")]);
    std::fs::remove_dir_all(robbed.join(layer)).expect("a registry without the layer");
    let _registries =
        [(&whole, "node-1"), (&robbed, "node-2")].map(|(root, node)| start(&program, &scratch, root, node, &cluster));
    for node in ["node-1", "node-2"] {
        trust(&scratch, node, &cluster, &kybern);
    }

    let ns = Namespace::new("registry");
    for (secret, password) in [("right", "allmine"), ("wrong", "guessed")] {
        let (user, with) = ("--docker-username=tester", format!("--docker-password={password}"));
        let server = format!("--docker-server={REGISTRY}");
        ns.say(&["create", "secret", "docker-registry", secret, user, &with, &server]);
        pull(&ns, secret, secret, "node-1");
    }
    let succeeds = |pod: &str, what: &str| {
        eventually(what, || {
            let phase = ns.path(&["pod", pod], "{.status.phase}")?;
            ensure(phase == "Succeeded", || phase.clone())
        });
    };
    succeeds("right", "the right password pulls");
    let refused = |pod: &str| {
        let why = eventually("the wrong one is refused", || {
            let waiting = ns.path(&["pod", pod], "{.status.containerStatuses[0].state.waiting}")?;
            ensure(waiting.contains("ImagePullBackOff"), || waiting.clone())?;
            Ok(waiting)
        });
        assert!(why.contains("401 Unauthorized") || why.contains("authorization failed"), "the cause: {why}");
    };
    refused("wrong");
    eventually("events tell of the pull", || {
        let told = ns.path(&["events"], "{.items[*].message}")?;
        ensure(told.contains(&format!("Successfully pulled image \"{REGISTRY}/private/tool:1\" in ")), || told.clone())
    });

    eventually("the first node tells of the image", || {
        let images = ns.path(&["node", "node-1"], "{.status.images[*].names}")?;
        ensure(images.contains(&format!("{REGISTRY}/private/tool:1")), || images.clone())
    });
    pull(&ns, "other", "right", "node-2");
    pull(&ns, "stranger", "wrong", "node-2");
    succeeds("other", "the second node has the layer from the first: its own registry has none");
    refused("stranger");
}

/// Where a node's network namespace is.
fn netns(cluster: &str, node: &str) -> String {
    let found = std::fs::read_dir("/run/netns").expect("network namespaces").flatten().map(|e| e.path());
    let ours = |p: &PathBuf| {
        let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.contains(cluster) && name.ends_with(node)
    };
    found.into_iter().find(ours).expect("the node's namespace").display().to_string()
}
