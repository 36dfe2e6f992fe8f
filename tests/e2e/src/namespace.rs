//! A namespace for one test.

use crate::{Background, Kubectl, run};
use anyhow::Result;
use serde_json::Value;

/// A namespace that goes away with this value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    client: Kubectl,
}

impl Namespace {
    /// Creates a namespace whose name begins with `prefix`.
    ///
    /// # Panics
    /// When the cluster refuses.
    pub fn new(prefix: &str) -> Self {
        let name = format!("{prefix}-{}", std::process::id());
        let manifest = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name} }}\n");
        run(&["create", "-f", "-"], Some(&manifest)).expect("create namespace");
        let client = Kubectl::new().with(&["--namespace", &name]);
        Self { name, client }
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How kubectl is called in this namespace, to vary it.
    pub fn client(&self) -> Kubectl {
        self.client.clone()
    }

    /// Runs kubectl in this namespace; its standard output.
    ///
    /// # Errors
    /// With kubectl's standard error when it fails.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.client.run(args, None)
    }

    /// Like [`Namespace::kubectl`] with text on standard input.
    ///
    /// # Errors
    /// With kubectl's standard error when it fails.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        self.client.run(args, Some(input))
    }

    /// Runs kubectl; what it said, without the line's end.
    ///
    /// # Panics
    /// With kubectl's standard error when it fails.
    pub fn say(&self, args: &[&str]) -> String {
        self.kubectl(args).expect("kubectl").trim_end().to_owned()
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

    /// Waits until a Deployment is rolled out; what kubectl said meanwhile.
    ///
    /// # Panics
    /// When it is not within a minute.
    pub fn rolled_out(&self, deployment: &str) -> String {
        self.say(&["rollout", "status", &format!("deployment/{deployment}"), "--timeout=60s"])
    }

    /// Waits until a pod is ready.
    ///
    /// # Panics
    /// When it is not within a minute.
    pub fn ready(&self, pod: &str) {
        self.say(&["wait", &format!("pod/{pod}"), "--for=condition=Ready", "--timeout=60s"]);
    }

    /// Starts kubectl in the background (a watch, a port-forward); it ends with the returned value.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn background(&self, args: &[&str]) -> Background {
        self.client.background(args)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(&["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"], None);
    }
}
