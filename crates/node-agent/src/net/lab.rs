//! Network namespaces for tests with real packets.

use super::netns;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// Namespaces with names of their own; they go with this value.
pub(crate) struct Lab {
    name: String,
    parts: &'static [&'static str],
}

impl Lab {
    pub(crate) fn new(name: &str, parts: &'static [&'static str]) -> Self {
        let lab = Self { name: format!("kybern-{name}-{}", std::process::id()), parts };
        for part in parts {
            netns::create(&lab.part(part)).unwrap();
            lab.ip(part, "link set lo up");
        }
        lab
    }

    /// A part's namespace.
    pub(crate) fn part(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    pub(crate) fn run<T: Send + 'static>(
        &self,
        part: &str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        netns::run_in(&netns::path(&self.part(part)), work)
    }

    /// Runs `ip` in a part.
    pub(crate) fn ip(&self, part: &str, line: &str) {
        let line = line.to_owned();
        let ran = self.run(part, move || {
            let out = Command::new("ip").args(line.split(' ')).output()?;
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            if out.status.success() { Ok(()) } else { Err(io::Error::other(format!("ip {line}: {said}"))) }
        });
        ran.unwrap();
    }

    /// Lets a part pass packets on, those of its bridges under the rules.
    pub(crate) fn forward(&self, part: &str) {
        let set = || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1")
        };
        self.run(part, set).unwrap();
    }

    /// Joins a part's `eth0` (with this address) to a link of another part.
    pub(crate) fn cable(&self, part: &str, address: &str, to: &str, link: &str) {
        let peer = self.part(part);
        self.ip(to, &format!("link add {link} type veth peer name eth0 netns {peer}"));
        self.ip(to, &format!("link set {link} up"));
        self.ip(part, &format!("addr add {address} dev eth0"));
        self.ip(part, "link set eth0 up");
    }

    /// Does a connection come about from this part?
    pub(crate) fn reaches(&self, from: &str, to: SocketAddr) -> bool {
        self.run(from, move || TcpStream::connect_timeout(&to, Duration::from_millis(300))).is_ok()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for part in self.parts {
            netns::delete(&self.part(part)).unwrap();
        }
    }
}
