//! Helpers for black-box tests: kubectl as a person uses it, a namespace for each test.
//!
//! Nothing here knows the server's code. The cluster is the one `KUBECONFIG` names, `KUBECTL` the client,
//! `KYBERN` the program that makes faults (tests that need it skip themselves on foreign clusters).

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long something may take to come true, unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The client program.
pub fn kubectl_program() -> String {
    std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into())
}

/// A namespace that goes away with this value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates a namespace whose name begins with `prefix`.
    ///
    /// # Panics
    /// When the cluster refuses.
    pub fn new(prefix: &str) -> Self {
        let name = format!("{prefix}-{}", std::process::id());
        // A left-over of an aborted run would get in the way.
        let _ = run(&["delete", "namespace", &name, "--ignore-not-found", "--wait=true"], None);
        run(&["create", "namespace", &name], None).expect("create namespace");
        Self { name }
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl in this namespace; its standard output.
    ///
    /// # Errors
    /// With kubectl's standard error when it fails.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", &self.name];
        all.extend_from_slice(args);
        run(&all, None)
    }

    /// Like [`Namespace::kubectl`] with text on standard input.
    ///
    /// # Errors
    /// With kubectl's standard error when it fails.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        let mut all = vec!["--namespace", &self.name];
        all.extend_from_slice(args);
        run(&all, Some(input))
    }

    /// Runs kubectl and expects it to fail; its standard error.
    ///
    /// # Panics
    /// When it succeeds.
    pub fn refused(&self, args: &[&str]) -> String {
        match self.kubectl(args) {
            Ok(out) => panic!("kubectl {args:?} should have failed, but said: {out}"),
            Err(e) => format!("{e:#}"),
        }
    }

    /// Applies a manifest.
    ///
    /// # Panics
    /// When the cluster refuses.
    pub fn apply(&self, manifest: &str) -> String {
        self.kubectl_with(&["apply", "-f", "-"], manifest).expect("apply")
    }

    /// An object (or list) as JSON.
    ///
    /// # Errors
    /// When it can't be got.
    pub fn get(&self, what: &[&str]) -> Result<Value> {
        let mut args = vec!["get", "-o", "json"];
        args.extend_from_slice(what);
        Ok(serde_json::from_str(&self.kubectl(&args)?)?)
    }

    /// A value by jsonpath.
    ///
    /// # Errors
    /// When it can't be got.
    pub fn path(&self, what: &[&str], path: &str) -> Result<String> {
        let output = format!("jsonpath={path}");
        let mut args = vec!["get", "-o", &output];
        args.extend_from_slice(what);
        self.kubectl(&args)
    }

    /// Starts kubectl in the background (a watch, a port-forward); it ends with the returned value.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn background(&self, args: &[&str]) -> Background {
        let child = Command::new(kubectl_program())
            .args(["--namespace", &self.name])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl");
        Background { child }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(&["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"], None);
    }
}

/// A kubectl that runs beside the test.
#[derive(Debug)]
pub struct Background {
    child: Child,
}

impl Background {
    /// Ends it and returns what it printed.
    ///
    /// # Panics
    /// When its output can't be read.
    pub fn finish(mut self) -> String {
        let _ = self.child.kill();
        let mut out = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut pipe, &mut out).expect("output of kubectl");
        }
        let _ = self.child.wait();
        out
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs kubectl; its standard output.
///
/// # Errors
/// With kubectl's standard error when it fails.
pub fn run(args: &[&str], input: Option<&str>) -> Result<String> {
    let output = output(args, input)?;
    if !output.status.success() {
        bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs kubectl; everything it gave.
///
/// # Errors
/// When it can't be started.
pub fn output(args: &[&str], input: Option<&str>) -> Result<Output> {
    let mut child = Command::new(kubectl_program())
        .args(args)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start kubectl")?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(text.as_bytes())?;
    }
    Ok(child.wait_with_output()?)
}

/// Asks until `check` gives a value, for [`PATIENCE`] at most.
///
/// # Panics
/// With the last failure when it never does.
pub fn eventually<T>(what: &str, check: impl FnMut() -> Result<T>) -> T {
    within(what, PATIENCE, check)
}

/// Asks until `check` gives a value, for `limit` at most.
///
/// # Panics
/// With the last failure when it never does.
pub fn within<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Result<T>) -> T {
    let begun = Instant::now();
    loop {
        match check() {
            Ok(v) => return v,
            Err(e) if begun.elapsed() > limit => panic!("{what}: not within {} s: {e:#}", limit.as_secs()),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Turns a condition into a result, for [`eventually`].
///
/// # Errors
/// With `text` when `condition` does not hold.
pub fn ensure(condition: bool, text: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { bail!(text()) }
}

/// A Deployment of the web image.
pub fn web(name: &str, replicas: u32) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name}, labels: {{ app: {name} }} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: kybern.local/web:1
        ports: [{{ containerPort: 8080, name: http }}]
        readinessProbe: {{ httpGet: {{ path: /, port: http }}, periodSeconds: 1 }}
"#
    )
}

/// A pod that runs a shell command.
pub fn shell(name: &str, command: &str) -> String {
    let command = serde_json::Value::from(command);
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: {name} }} }}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: kybern.local/web:1
    command: ["/bin/sh", "-c", {command}]
"#
    )
}
