//! Applies a transaction: `nft -f -`, all of it or nothing.

use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A transaction that did not go through.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program could not be run.
    #[error("cannot run nft (Debian package nftables)")]
    Run(#[source] std::io::Error),
    /// The kernel or nft refused; nothing has changed.
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

/// The nft program, in the network namespace this process is in.
#[derive(Debug, Clone)]
pub struct Nft {
    program: PathBuf,
}

impl Default for Nft {
    fn default() -> Self {
        Self { program: "nft".into() }
    }
}

impl Nft {
    /// Is there such a table?
    ///
    /// # Errors
    /// When nft can't be run.
    pub async fn holds(&self, family: &str, table: &str) -> Result<bool, NftError> {
        let mut command = Command::new(&self.program);
        command.args(["list", "table", family, table]).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.kill_on_drop(true).status().await.map_err(NftError::Run)?.success())
    }
    /// Applies a transaction.
    ///
    /// # Errors
    /// When nft can't be run or refuses; then nothing has changed.
    pub async fn apply(&self, text: &str) -> Result<(), NftError> {
        let mut child = Command::new(&self.program)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(NftError::Run)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(text.as_bytes()).await.map_err(NftError::Run)?;
        }
        let output = child.wait_with_output().await.map_err(NftError::Run)?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(NftError::Refused(text.lines().next().unwrap_or("no reason given").to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netns;
    use crate::proxy::Proxy;
    use crate::proxy::model::tests::{object, slice, web};
    use crate::proxy::rules::tests::network;
    use kybern_api::object::EventType;
    use serde_json::json;

    /// Asserted with the stock tool, not with our own reader.
    fn listing() -> String {
        let out = std::process::Command::new("nft").args(["list", "table", "ip", "kybern"]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    #[test]
    fn the_kernel_takes_every_transaction_and_ends_with_what_the_model_says() {
        let name = format!("kybern-nft-{}", std::process::id());
        netns::create(&name).unwrap();
        let outcome = netns::run_in_async(&netns::path(&name), || async {
            let mut proxy = Proxy::new("n1", network(), Nft::default());
            let mut seen = Vec::new();
            let mut step = async |p: &mut Proxy| {
                p.sync().await.map_err(std::io::Error::other)?;
                seen.push(listing());
                Ok::<(), std::io::Error>(())
            };
            proxy.model().service(EventType::Added, &web("d", "10.43.0.7", 30080)).unwrap();
            step(&mut proxy).await?;
            let both = slice("d", &[("10.42.1.2", "n1", Some(true)), ("10.42.2.2", "n2", Some(true))]);
            proxy.model().slice(EventType::Added, &both).unwrap();
            step(&mut proxy).await?;
            proxy.model().service(EventType::Modified, &web("d", "10.43.0.8", 30081)).unwrap();
            step(&mut proxy).await?;
            proxy.invalidate();
            step(&mut proxy).await?;
            proxy.model().service(EventType::Deleted, &web("d", "10.43.0.8", 30081)).unwrap();
            step(&mut proxy).await?;
            Ok(seen)
        });
        netns::delete(&name).unwrap();
        let seen = outcome.unwrap();
        assert!(seen[0].contains("10.43.0.7 . tcp . 80") && !seen[0].contains("dnat"), "{}", seen[0]);
        assert!(seen[1].contains("10.42.2.2 . 8080"), "{}", seen[1]);
        assert!(seen[2].contains("10.43.0.8 . tcp . 80") && !seen[2].contains("10.43.0.7"), "{}", seen[2]);
        assert!(seen[2].contains("tcp . 30081") && !seen[2].contains("30080"), "{}", seen[2]);
        assert_eq!(seen[2].lines().count(), seen[3].lines().count(), "a rewrite gives the same rules");
        assert!(!seen[4].contains("svc-") && !seen[4].contains("10.43.0.8"), "{}", seen[4]);
    }

    fn rich(name: &str, ranges: &[&str]) -> kybern_api::object::Object {
        let port = json!({"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30090});
        let spec = json!({"type": "LoadBalancer", "clusterIPs": [if name == "web" { "10.43.0.7" } else { "10.43.0.8" }],
            "ports": [port], "externalTrafficPolicy": "Local", "healthCheckNodePort": 30091,
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 30}},
            "loadBalancerSourceRanges": ranges});
        let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
        object("d", name, &[], json!({"spec": spec, "status": status}))
    }

    fn pod(port: u16, host_ip: &str) -> kybern_api::object::Object {
        let port = json!({"containerPort": 8080, "hostPort": port, "hostIP": host_ip, "protocol": "UDP"});
        let spec = json!({"nodeName": "n1", "containers": [{"ports": [port]}]});
        object("d", "p", &[], json!({"spec": spec, "status": {"phase": "Running", "podIPs": [{"ip": "10.42.1.5"}]}}))
    }

    #[test]
    fn affinity_sources_host_ports_and_rivals_are_taken_and_given_back() {
        let name = format!("kybern-nft2-{}", std::process::id());
        netns::create(&name).unwrap();
        let outcome = netns::run_in_async(&netns::path(&name), || async {
            let mut proxy = Proxy::new("n1", network(), Nft::default());
            let mut seen = Vec::new();
            let mut step = async |p: &mut Proxy| {
                p.sync().await.map_err(std::io::Error::other)?;
                seen.push(listing());
                Ok::<(), std::io::Error>(())
            };
            proxy.model().service(EventType::Added, &rich("web", &["198.51.100.0/24"])).unwrap();
            let both = slice("d", &[("10.42.1.2", "n1", Some(true)), ("10.42.2.2", "n2", Some(true))]);
            proxy.model().slice(EventType::Added, &both).unwrap();
            proxy.model().pod(EventType::Added, &pod(53, "")).unwrap();
            step(&mut proxy).await?;
            let one = slice("d", &[("10.42.1.2", "n1", Some(true))]);
            proxy.model().slice(EventType::Modified, &one).unwrap();
            proxy.model().pod(EventType::Modified, &pod(53, "127.0.0.1")).unwrap();
            proxy.model().service(EventType::Added, &rich("rival", &[])).unwrap();
            step(&mut proxy).await?;
            proxy.model().service(EventType::Deleted, &rich("web", &[])).unwrap();
            proxy.model().pod(EventType::Deleted, &pod(53, "")).unwrap();
            step(&mut proxy).await?;
            Ok(seen)
        });
        netns::delete(&name).unwrap();
        let seen = outcome.unwrap();
        assert_eq!(seen[0].matches("set aff-").count(), 2, "{}", seen[0]);
        assert!(seen[0].contains("ip saddr != 198.51.100.0/24 drop") && seen[0].contains("udp . 53"), "{}", seen[0]);
        assert_eq!(seen[1].matches("set aff-").count(), 1, "{}", seen[1]);
        assert!(seen[1].contains("127.0.0.1 . udp . 53") && seen[1].contains("10.43.0.8 . tcp . 80"), "{}", seen[1]);
        assert!(seen[1].contains("192.0.2.1 . tcp . 80 : goto lb-"), "who has the address keeps it: {}", seen[1]);
        assert!(seen[2].contains("192.0.2.1 . tcp . 80 : goto ext-"), "given back, it goes on: {}", seen[2]);
        assert!(!seen[2].contains("10.43.0.7") && !seen[2].contains("udp . 53"), "{}", seen[2]);
    }
}
