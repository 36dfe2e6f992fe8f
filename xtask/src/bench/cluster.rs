//! The cluster under the bench: made by the program itself, removed with this value.

use super::row;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

const NAME: &str = "bench";

/// A running dev cluster.
pub(crate) struct Cluster {
    program: PathBuf,
    /// Path of its kubeconfig.
    pub(crate) kubeconfig: PathBuf,
    /// Addresses of its servers.
    pub(crate) servers: Vec<String>,
}

impl Cluster {
    /// Creates it and reports how long its parts took.
    pub(crate) fn create() -> Result<Self> {
        let target =
            std::env::var("CARGO_TARGET_DIR").context("CARGO_TARGET_DIR is not set: run through deploy/env.sh")?;
        let program = PathBuf::from(target).join("release/kybern");
        let kybern = |args: &[&str]| -> Result<String> {
            let out = Command::new(&program).args(args).args(["--name", NAME]).output().context("kybern")?;
            if !out.status.success() {
                bail!("kybern {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
            }
            Ok(String::from_utf8_lossy(&out.stdout).into_owned())
        };
        kybern(&["dev", "delete"])?;
        let said = kybern(&["dev", "create", "--servers", "3", "--nodes", "2"])?;
        for (text, target) in [("all servers ready", "<= 1.5 s"), ("all nodes ready", "")] {
            let line = said.lines().find(|l| l.contains(text)).unwrap_or_default();
            row(&format!("{text} from empty disk"), line.rsplit("after ").next().unwrap_or_default(), target);
        }
        let image = Command::new("deploy/web-image.sh").output()?;
        kybern(&["image", "import", String::from_utf8_lossy(&image.stdout).trim()])?;
        let kubeconfig = PathBuf::from(kybern(&["dev", "kubeconfig"])?.trim());
        let servers = (11..14).map(|i| format!("10.89.{}.{i}", subnet(&said))).collect();
        Ok(Self { program, kubeconfig, servers })
    }

    /// Process ids by host name.
    pub(crate) fn processes(&self) -> Result<Vec<(String, u32)>> {
        let out = Command::new(&self.program).args(["dev", "list"]).output()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let mine = text.lines().skip_while(|l| !l.starts_with(NAME)).skip(1).take_while(|l| l.starts_with("  "));
        Ok(mine
            .filter_map(|l| {
                let mut words = l.split_whitespace();
                let host = words.next()?.to_owned();
                Some((host, words.last()?.parse().ok()?))
            })
            .collect())
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into());
        let out = Command::new(program).env("KUBECONFIG", &self.kubeconfig).args(args).output()?;
        if !out.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// A Deployment of three pods, from its creation until they run.
    pub(crate) fn first_deployment(&self) -> Result<()> {
        let begun = Instant::now();
        self.kubectl(&["apply", "-f", "deploy/first.yaml"])?;
        let args = ["wait", "deployment/web", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=60s"];
        self.kubectl(&args)?;
        row(
            "Deployment applied to three pods Ready (kubectl's time included)",
            format!("{:.2} s", begun.elapsed().as_secs_f64()),
            "<= 1.5 s",
        );
        Ok(())
    }
}

fn subnet(said: &str) -> String {
    said.split("10.89.").nth(1).and_then(|t| t.split('.').next()).unwrap_or("0").to_owned()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(&self.program).args(["dev", "delete", "--name", NAME]).output();
    }
}
