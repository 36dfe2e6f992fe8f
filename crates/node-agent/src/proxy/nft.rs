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
    use crate::proxy::model::tests::{slice, web};
    use crate::proxy::rules::tests::network;
    use kybern_api::object::EventType;

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
}
