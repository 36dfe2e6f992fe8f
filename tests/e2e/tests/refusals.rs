//! What the program says when it can't do what it was asked: one line with the cause and the remedy, and a
//! failing exit code.

use kybern_e2e::{Scratch, eventually, free_port, run};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The program under test; None on a foreign cluster.
fn kybern() -> Option<PathBuf> {
    let program = std::env::var("KYBERN").ok().map(PathBuf::from);
    if program.is_none() {
        eprintln!("skipped: KYBERN is not set");
    }
    program
}

/// The one line that a refusal is.
fn line(out: &Output) -> String {
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success(), "it should have refused: {said}");
    let errors: Vec<&str> = said.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one line: {said}");
    errors[0].to_owned()
}

/// The data directory of the first server of the cluster under test.
fn first_server() -> String {
    format!("/var/lib/kybern/dev/{}/server-1", std::env::var("KYBERN_NAME").expect("KYBERN_NAME"))
}

/// A join token of the cluster under test.
fn token(program: &Path, role: &str) -> String {
    let config = std::env::var("KUBECONFIG").expect("KUBECONFIG");
    let args =
        ["token", "create", "--role", role, "--ttl", "10m", "--kubeconfig", &config, "--data-dir", &first_server()];
    let out = Command::new(program).args(args).output().expect("kybern");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// `https://ADDRESS:PORT` of one server of the cluster under test.
fn address() -> String {
    let path = "jsonpath=https://{.endpoints[0].addresses[0]}:{.ports[0].port}";
    run(&["get", "endpointslice", "kubernetes", "-o", path], None).expect("the API's own slice")
}

/// `kybern server` on loopback, with ports of its own.
struct Server {
    dir: Scratch,
    program: PathBuf,
    api: u16,
    peer: u16,
}

impl Server {
    fn new(program: &Path, name: &str) -> Self {
        Self { dir: Scratch::new(name), program: program.to_path_buf(), api: free_port(), peer: free_port() }
    }
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["server", "--config", "/nonexistent", "--node-ip", "127.0.0.1", "--node-name", "lonely"]);
        command.args(["--data-dir", &self.dir.file("data"), "--write-kubeconfig", &self.kubeconfig()]);
        command.args(["--https-listen-port", &self.api.to_string(), "--peer-port", &self.peer.to_string()]);
        command
    }
    fn kubeconfig(&self) -> String {
        self.dir.file("kubeconfig")
    }
    fn refusal(&self, args: &[&str]) -> String {
        line(&self.command().args(args).output().expect("kybern"))
    }
    /// Runs it until it answers.
    fn up(&self) -> Running {
        let child = self.command().stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("kybern");
        let running = Running(child);
        eventually("it is ready", || run(&["--kubeconfig", &self.kubeconfig(), "get", "--raw", "/readyz"], None));
        running
    }
}

/// A program that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_tells_why_it_does_not_start() {
    let Some(program) = kybern() else { return };
    let server = Server::new(&program, "refusals");
    let taken = TcpListener::bind(("0.0.0.0", server.api)).expect("a port");
    let said = server.refusal(&[]);
    assert!(said.contains(&format!("port {} can't be listened on", server.api)) && said.contains("ss -ltnp"), "{said}");
    drop(taken);

    let said = server.refusal(&["--server", &address(), "--token", &token(&program, "agent")]);
    assert!(said.contains("this token is for nodes") && said.contains("--role server"), "{said}");
    let mut wrong = token(&program, "server");
    wrong.replace_range(wrong.len() - 6.., "zzzzzz");
    let said = server.refusal(&["--server", &address(), "--token", &wrong]);
    assert!(said.contains("does not know this token") && said.contains("kybern token create"), "{said}");

    drop(server.up());
    let said = server.refusal(&["--server", &address(), "--token", &token(&program, "server")]);
    assert!(said.contains("holds the data of cluster") && said.contains("--data-dir"), "{said}");
    std::fs::remove_dir_all(server.dir.file("data/server/tls")).expect("keys");
    let said = server.refusal(&[]);
    assert!(said.contains("but not its keys") && said.contains("--data-dir"), "{said}");
}

#[test]
fn an_agent_tells_why_it_does_not_start() {
    let Some(program) = kybern() else { return };
    let (dir, own) = (Scratch::new("agent-refusals"), token(&program, "agent"));
    let agent = |before: &[&str], server: &str, token: &str, data: &str| {
        let mut words: Vec<&str> = before.to_vec();
        words.push(program.to_str().expect("UTF-8"));
        words.extend(["agent", "--config", "/nonexistent", "--node-ip", "127.0.0.1", "--node-name", "lonely"]);
        let (data, state) = (dir.file(data), dir.file("run"));
        words.extend(["--server", server, "--token", token, "--data-dir", &data, "--run-dir", &state]);
        line(&Command::new(words[0]).args(&words[1..]).output().expect("kybern"))
    };
    let nobody = ["setpriv", "--reuid=65534", "--clear-groups"];
    let said = agent(&nobody, &address(), &own, "nobody");
    assert!(said.contains("needs root"), "{said}");
    let said = agent(&["env"], &address(), "K10nonsense", "a");
    assert!(said.contains("--token can't be used"), "{said}");

    // The token of another cluster, and the data of another cluster.
    let other = Server::new(&program, "other");
    let running = other.up();
    let args = ["token", "create", "--kubeconfig", &other.kubeconfig(), "--data-dir", &other.dir.file("data")];
    let foreign = Command::new(&program).args(args).output().expect("kybern");
    let foreign = String::from_utf8_lossy(&foreign.stdout).trim().to_owned();
    let said = agent(&["env"], &address(), &foreign, "a");
    assert!(said.contains("is not a server of the cluster that made this token"), "{said}");
    drop(running);
    let pem = std::fs::read(format!("{}/server/tls/server-ca.crt", other.dir.file("data"))).expect("the other CA");
    std::fs::create_dir_all(dir.file("b/agent")).expect("a directory");
    std::fs::write(dir.file("b/agent/server-ca.crt"), pem).expect("written");
    let said = agent(&["env"], &address(), &own, "b");
    assert!(said.contains("holds the data of another cluster") && said.contains("--data-dir"), "{said}");

    // Nothing to run containers with: a view of the machine without containerd, and in a network of its own,
    // so that nothing is changed should it go on.
    let pem = std::fs::read(format!("{}/server/tls/server-ca.crt", first_server())).expect("the CA");
    std::fs::create_dir_all(dir.file("c/agent")).expect("a directory");
    std::fs::write(dir.file("c/agent/server-ca.crt"), pem).expect("written");
    let hide = "mount --bind /dev/null /usr/bin/containerd && exec \"$@\"";
    let bare = ["unshare", "--net", "--mount", "sh", "-c", hide, "sh"];
    let said = agent(&bare, "https://127.0.0.1:9", &own, "c");
    assert!(said.contains("containerd is not installed: install the package"), "{said}");
}
