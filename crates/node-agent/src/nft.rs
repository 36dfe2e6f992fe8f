//! A table of nftables that is ours: changed by whole transactions, and watched for the changes of others,
//! so that what is flushed by hand can be written again at once.

use crate::net::netfilter::{Message, Socket, find, messages};
use nix::errno::Errno;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

/// The kernel's news of nftables: their group's bit, and the subsystem in a message's type.
const GROUP: u32 = 1 << 6;
const SUBSYSTEM: u16 = 10;
/// The attribute that names the table, in messages about tables, chains, rules, sets and elements alike.
const TABLE: u16 = 1;
/// Room for news while nobody looks: those of a transaction that writes ten thousand services come at once.
const ROOM: usize = 32 << 20;
/// News that could not be read are tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// A transaction that did not go through.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program could not be run.
    #[error("cannot run nft (Debian package nftables)")]
    Run(#[source] io::Error),
    /// The kernel or nft refused; nothing has changed.
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

/// A table by its name (of whatever families), in the network namespace this process is in.
#[derive(Debug)]
pub struct Table {
    program: PathBuf,
    name: &'static str,
    news: AsyncFd<Socket>,
    /// Has somebody else changed it?
    disturbed: bool,
}

impl Table {
    /// Begins to watch the table, which need not be there yet.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    #[expect(deprecated, reason = "its successor is unsafe, for descriptors that change under it; this one is owned")]
    pub fn open(name: &'static str) -> io::Result<Self> {
        let news = AsyncFd::new(Socket::listening(GROUP, ROOM)?)?;
        Ok(Self { program: "nft".into(), name, news, disturbed: false })
    }

    /// Applies a transaction: all of it or nothing.
    ///
    /// # Errors
    /// When nft can't be run or refuses; then nothing has changed.
    pub async fn apply(&mut self, text: &str) -> Result<(), NftError> {
        let mut child = Command::new(&self.program)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(NftError::Run)?;
        let own = child.id();
        if let Some(mut input) = child.stdin.take() {
            input.write_all(text.as_bytes()).await.map_err(NftError::Run)?;
        }
        let output = child.wait_with_output().await.map_err(NftError::Run)?;
        // What this transaction has changed is news too, and all there by now.
        self.read(own).await?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(NftError::Refused(text.lines().next().unwrap_or("no reason given").to_owned()))
    }

    /// Is there such a chain in the table of this family?
    ///
    /// # Errors
    /// When nft can't be run.
    pub async fn holds(&self, family: &str, chain: &str) -> Result<bool, NftError> {
        let mut command = Command::new(&self.program);
        command.args(["list", "chain", family, self.name, chain]).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.kill_on_drop(true).status().await.map_err(NftError::Run)?.success())
    }

    /// Waits until somebody else has changed the table, or may have. Nothing is lost when this is dropped
    /// before.
    pub async fn disturbed(&mut self) {
        while !std::mem::take(&mut self.disturbed) {
            if let Err(e) = self.listen().await {
                tracing::error!(table = self.name, "the kernel's news cannot be read: {e}");
                tokio::time::sleep(RETRY).await;
                self.disturbed = true;
            }
        }
        tracing::warn!(table = self.name, "somebody else has changed the rules");
    }

    async fn listen(&mut self) -> Result<(), NftError> {
        self.news.readable().await.map_err(NftError::Run)?.clear_ready();
        self.read(None).await
    }

    /// Takes in the news there are, except those of the process `own`.
    async fn read(&mut self, own: Option<u32>) -> Result<(), NftError> {
        let mut buffer = vec![0; 64 * 1024];
        let mut lost = false;
        loop {
            match self.news.get_ref().receive(&mut buffer) {
                Ok(bytes) => {
                    let foreign = |m: Message<'_>| Some(m.port) != own && self.concerns(m);
                    self.disturbed |= messages(bytes).any(foreign);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => lost = true,
                Err(e) => return Err(NftError::Run(e)),
            }
        }
        if lost {
            // So many come from transactions like ours; it is enough to see that the table is still there.
            let known = std::mem::replace(&mut self.disturbed, true);
            self.disturbed = known || !self.stands().await?;
        }
        Ok(())
    }

    fn concerns(&self, message: Message<'_>) -> bool {
        let named = |name: &[u8]| name.strip_suffix(&[0]).unwrap_or(name) == self.name.as_bytes();
        message.kind >> 8 == SUBSYSTEM && find(message.attributes(), TABLE).is_some_and(named)
    }

    async fn stands(&self) -> Result<bool, NftError> {
        let mut command = Command::new(&self.program);
        let listed = command.args(["list", "tables"]).kill_on_drop(true).output().await.map_err(NftError::Run)?;
        let text = String::from_utf8_lossy(&listed.stdout);
        Ok(text.lines().any(|line| line.split(' ').nth(2) == Some(self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netns;

    const FRAME: &str = "table ip kybern-t { chain c { accept; }\n set s { type ipv4_addr; }\n }\n";

    /// Runs nft as somebody else.
    async fn by_hand(line: &str) -> io::Result<()> {
        let done = Command::new("nft").args(line.split(' ')).status().await?;
        if done.success() { Ok(()) } else { Err(io::Error::other(format!("nft {line}"))) }
    }

    async fn seen(table: &mut Table, limit: Duration) -> bool {
        tokio::time::timeout(limit, table.disturbed()).await.is_ok()
    }

    #[test]
    fn the_changes_of_others_are_seen_and_no_other_ones() {
        let name = format!("kybern-nftw-{}", std::process::id());
        netns::create(&name).unwrap();
        let outcome = netns::run_in_async(&netns::path(&name), || async {
            let (soon, never) = (Duration::from_secs(5), Duration::from_millis(200));
            let mut table = Table::open("kybern-t")?;
            let put = async |table: &mut Table, text: &str| table.apply(text).await.map_err(io::Error::other);
            put(&mut table, FRAME).await?;
            put(&mut table, "add element ip kybern-t s { 10.0.0.1 }").await?;
            by_hand("add table ip other").await?;
            by_hand("add chain ip other kybern-t").await?;
            let mut seen_by_step = vec![("own", seen(&mut table, never).await)];
            let lines =
                ["flush chain ip kybern-t c", "flush set ip kybern-t s", "delete table ip kybern-t", "flush ruleset"];
            for line in lines {
                by_hand(line).await?;
                seen_by_step.push((line, seen(&mut table, soon).await));
                put(&mut table, FRAME).await?;
                put(&mut table, "add element ip kybern-t s { 10.0.0.1 }").await?;
            }
            by_hand("delete table ip kybern-t").await?;
            let _ = put(&mut table, "add element ip kybern-t s { 10.0.0.2 }").await;
            seen_by_step.push(("amid our own", seen(&mut table, soon).await));
            Ok(seen_by_step)
        });
        netns::delete(&name).unwrap();
        let seen = outcome.unwrap();
        assert!(!seen[0].1 && seen[1..].iter().all(|(_, seen)| *seen), "{seen:?}");
    }
}
