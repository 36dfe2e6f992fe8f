//! A program that speaks protobuf and nothing else: it writes its messages by hand, and reads lists, watches
//! and answers as bytes.

use kybern_e2e::{Namespace, Scratch, eventually, run};
use std::io::Read;
use std::process::{Command, Stdio};

const MEDIA: &str = "application/vnd.kubernetes.protobuf";

/// A field that has a length: text, bytes or a message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

/// `k8s\0`, then what the object is, then the object.
fn envelope(kind: &str, message: &[u8]) -> Vec<u8> {
    let meaning = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &meaning), field(2, message)].concat()
}

/// A ConfigMap with one key.
fn config_map(name: &str, key: &str, value: &str) -> Vec<u8> {
    let entry = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
    envelope("ConfigMap", &[field(1, &field(1, name.as_bytes())), field(2, &entry)].concat())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The contents of a message's fields of this number.
fn all(mut bytes: &[u8], number: u64) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes).expect("a tag");
        match tag & 7 {
            0 => drop(varint(&mut bytes).expect("a number")),
            2 => {
                let length = usize::try_from(varint(&mut bytes).expect("a length")).expect("a length");
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                if tag >> 3 == number {
                    found.push(content);
                }
            }
            other => panic!("wire type {other} in {bytes:?}"),
        }
    }
    found
}

fn one(bytes: &[u8], number: u64) -> &[u8] {
    all(bytes, number).first().copied().unwrap_or_default()
}

fn text(bytes: &[u8], path: &[u64]) -> String {
    String::from_utf8(path.iter().fold(bytes, |at, number| one(at, *number)).to_vec()).expect("text")
}

/// The kind and the message of a body.
fn open(body: &[u8]) -> (String, &[u8]) {
    let rest = body.strip_prefix(b"k8s\0").unwrap_or_else(|| panic!("no prefix: {}", String::from_utf8_lossy(body)));
    (text(rest, &[1, 2]), one(rest, 2))
}

/// Requests over TLS with the credentials of the kubeconfig.
struct Caller {
    scratch: Scratch,
    arguments: Vec<String>,
    base: String,
}

impl Caller {
    fn new(namespace: &str) -> Self {
        let scratch = Scratch::new("protobuf");
        let view = |path: &str| {
            let args = ["config", "view", "--raw", "--minify", "--flatten", "-o", &format!("jsonpath={path}")];
            run(&args, None).expect("the kubeconfig")
        };
        let mut arguments = vec!["--silent".to_owned(), "--show-error".to_owned()];
        for (option, path) in [
            ("--cacert", "{.clusters[0].cluster.certificate-authority-data}"),
            ("--cert", "{.users[0].user.client-certificate-data}"),
            ("--key", "{.users[0].user.client-key-data}"),
        ] {
            let file = scratch.file(option);
            let decoded = run_base64(&view(path));
            std::fs::write(&file, decoded).expect("a file");
            arguments.extend([option.to_owned(), file]);
        }
        let base = format!("{}/api/v1/namespaces/{namespace}/configmaps", view("{.clusters[0].cluster.server}"));
        Self { scratch, arguments, base }
    }

    fn command(&self, method: &str, path: &str, media: &str, body: Option<&[u8]>) -> Command {
        let mut command = Command::new("curl");
        command.args(&self.arguments).args(["--request", method, "--header", &format!("Accept: {MEDIA}")]);
        if let Some(body) = body {
            let file = self.scratch.file("body");
            std::fs::write(&file, body).expect("a file");
            command.args(["--header", &format!("Content-Type: {media}"), "--data-binary", &format!("@{file}")]);
        }
        command.arg(format!("{}{path}", self.base));
        command
    }

    fn call(&self, method: &str, path: &str, body: Option<&[u8]>) -> Vec<u8> {
        self.call_with(method, path, MEDIA, body)
    }

    fn call_with(&self, method: &str, path: &str, media: &str, body: Option<&[u8]>) -> Vec<u8> {
        let output = self.command(method, path, media, body).output().expect("curl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

fn run_base64(encoded: &str) -> Vec<u8> {
    use std::io::Write;
    let mut child =
        Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("base64");
    child.stdin.take().expect("its input").write_all(encoded.as_bytes()).expect("written");
    child.wait_with_output().expect("its end").stdout
}

/// Numbers of the fields: ConfigMap.metadata 1, .data 2; ObjectMeta.name 1, .resourceVersion 6; entries of maps
/// key 1, value 2; lists metadata 1, items 2; ListMeta.resourceVersion 2; Status.reason 4.
#[test]
fn a_client_that_speaks_protobuf_only_lists_watches_creates_and_patches() {
    let ns = Namespace::new("protobuf");
    eventually("the namespace is complete", || ns.kubectl(&["get", "configmap", "kube-root-ca.crt"]));
    let caller = Caller::new(ns.name());
    let created = caller.call("POST", "", Some(&config_map("one", "key", "ü")));
    let (kind, map) = open(&created);
    assert_eq!((kind.as_str(), text(map, &[1, 1])), ("ConfigMap", "one".to_owned()));
    assert_eq!(text(map, &[2, 2]), "ü");
    caller.call("POST", "", Some(&config_map("two", "key", "2")));

    let listed = caller.call("GET", "?fieldSelector=metadata.name!%3Dkube-root-ca.crt", None);
    let (kind, list) = open(&listed);
    let names: Vec<String> = all(list, 2).into_iter().map(|item| text(item, &[1, 1])).collect();
    assert_eq!((kind.as_str(), names), ("ConfigMapList", vec!["one".to_owned(), "two".to_owned()]));
    let revision = text(list, &[1, 2]);
    assert!(revision.parse::<u64>().is_ok(), "{revision}");

    let path = format!("?watch=1&timeoutSeconds=30&resourceVersion={revision}");
    let mut watch =
        caller.command("GET", &path, MEDIA, None).arg("--no-buffer").stdout(Stdio::piped()).spawn().expect("curl");
    let mut stream = watch.stdout.take().expect("its output");
    let patch = br#"{"data":{"more":"x"}}"#;
    let patched = caller.call_with("PATCH", "/one", "application/merge-patch+json", Some(patch));
    let (_, map) = open(&patched);
    assert_eq!(all(map, 2).len(), 2, "two keys");
    let replaced = caller.call("PUT", "/two", Some(&config_map("two", "other", "3")));
    assert_eq!(text(open(&replaced).1, &[2, 1]), "other");
    let deleted = caller.call("DELETE", "/one", None);
    assert_eq!(open(&deleted).0, "Status");
    for (want, name) in [("MODIFIED", "one"), ("MODIFIED", "two"), ("DELETED", "one")] {
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("a frame");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame).expect("a frame");
        let object = one(&frame, 2);
        let (kind, map) = open(one(object, 1));
        assert_eq!(
            (text(&frame, &[1]).as_str(), kind.as_str(), text(map, &[1, 1])),
            (want, "ConfigMap", name.to_owned())
        );
    }
    watch.kill().expect("it runs");
    watch.wait().expect("its end");

    let missing = caller.call("GET", "/one", None);
    let (kind, status) = open(&missing);
    assert_eq!((kind.as_str(), text(status, &[4])), ("Status", "NotFound".to_owned()));
    // kubectl, in JSON, sees what was written.
    assert_eq!(ns.path(&["configmap", "two"], "{.data}").expect("data"), r#"{"other":"3"}"#);
}
