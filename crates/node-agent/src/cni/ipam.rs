//! Host-local addresses: one file per address that names its owner and its pod, under a lock. Survives restarts,
//! never hands an address out twice, and goes round so that a freed address rests before it is used again.

use super::config::host_link;
use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

const LAST: &str = "last";

/// In a pod's place: the node's own namespace, which no policy is for. No pod has such a name.
pub const OURS: &str = "the node";

/// The addresses of one network, locked against other calls while this lives.
#[derive(Debug)]
pub struct Addresses {
    dir: PathBuf,
    network: Ipv4Net,
    _lock: Flock<File>,
}

impl Addresses {
    /// Opens (and locks) the store below `dir`.
    ///
    /// # Errors
    /// When the directory can't be made or locked.
    pub fn open(dir: &Path, network: Ipv4Net) -> io::Result<Self> {
        let dir = directory(dir);
        std::fs::create_dir_all(&dir)?;
        let file = File::options().create(true).append(true).open(dir.join("lock"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| io::Error::from(e))?;
        Ok(Self { dir, network, _lock: lock })
    }

    /// The owner's address: the one it has, or the next free one after the last handed out. `pod` is the
    /// pod's `namespace/name`, for [`held`].
    ///
    /// # Errors
    /// `QuotaExceeded` when all addresses are taken, or a write error.
    pub fn allocate(&self, owner: &str, pod: &str) -> io::Result<Ipv4Addr> {
        if let Some(known) = self.find(owner)? {
            return Ok(known);
        }
        // The first address is the bridge's.
        let (first, last) =
            (u32::from(self.network.network()) + 2, u32::from(self.network.broadcast()).saturating_sub(1));
        let begin = std::fs::read_to_string(self.dir.join(LAST))
            .ok()
            .and_then(|t| t.parse::<Ipv4Addr>().ok())
            .map_or(first, |a| u32::from(a) + 1);
        let candidates = (begin.clamp(first, last + 1)..=last).chain(first..=last);
        for candidate in candidates.map(Ipv4Addr::from) {
            match write(&self.dir, candidate, owner, pod) {
                Ok(()) => {
                    std::fs::write(self.dir.join(LAST), candidate.to_string())?;
                    return Ok(candidate);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, format!("all addresses of {} are taken", self.network)))
    }

    /// Frees the owner's address; fine when it has none.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn release(&self, owner: &str) -> io::Result<()> {
        match self.find(owner)? {
            Some(a) => std::fs::remove_file(self.dir.join(a.to_string())),
            None => Ok(()),
        }
    }

    /// The owner's address.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn find(&self, owner: &str) -> io::Result<Option<Ipv4Addr>> {
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Some(address) = entry.file_name().to_str().and_then(|n| n.parse::<Ipv4Addr>().ok()) else { continue };
            if std::fs::read_to_string(entry.path()).is_ok_and(|text| parts(&text).0 == owner) {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }
}

/// Where the addresses below `dir` are kept.
pub fn directory(dir: &Path) -> PathBuf {
    dir.join("addresses")
}

/// Who has an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// Container and interface, as CNI names them.
    pub owner: String,
    /// The pod's `namespace/name`.
    pub pod: String,
}

impl Holder {
    /// The node's end of its link.
    pub fn link(&self) -> String {
        host_link(&self.owner)
    }
}

/// Who has the addresses in a [`directory`]. Takes no lock: an address that is being given out or back may be
/// there or not.
///
/// # Errors
/// When the directory can't be read.
pub fn held(directory: &Path) -> io::Result<BTreeMap<Ipv4Addr, Holder>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Some(address) = entry.file_name().to_str().and_then(|n| n.parse::<Ipv4Addr>().ok()) else { continue };
        match std::fs::read_to_string(entry.path()) {
            Ok(text) => {
                let (owner, pod) = parts(&text);
                found.insert(address, Holder { owner: owner.to_owned(), pod: pod.to_owned() });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Writes down again who has an address, after the file was lost; false: somebody else has it by now.
///
/// # Errors
/// When the file can't be written.
pub fn restore(directory: &Path, address: Ipv4Addr, holder: &Holder) -> io::Result<bool> {
    match write(directory, address, &holder.owner, &holder.pod) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        other => other.map(|()| true),
    }
}

fn write(directory: &Path, address: Ipv4Addr, owner: &str, pod: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(directory.join(address.to_string()))?;
    io::Write::write_all(&mut file, format!("{owner}\n{pod}").as_bytes())
}

/// Owner (two lines) and pod of a file.
fn parts(text: &str) -> (&str, &str) {
    let first = text.find('\n').map_or(text.len(), |at| at + 1);
    let end = text[first..].find('\n').map_or(text.len(), |at| first + at);
    (&text[..end], text[end..].trim_start_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("kybern-ipam-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn addresses_are_unique_survive_reopening_and_go_round() {
        let dir = scratch("unique");
        let network: Ipv4Net = "10.42.3.0/29".parse().unwrap();
        let open = || Addresses::open(&dir, network).unwrap();
        let got: Vec<String> =
            (0..5).map(|i| open().allocate(&format!("c{i}\neth0"), "d/p").unwrap().to_string()).collect();
        assert_eq!(got, ["10.42.3.2", "10.42.3.3", "10.42.3.4", "10.42.3.5", "10.42.3.6"]);
        assert_eq!(open().allocate("c1\neth0", "d/p").unwrap().to_string(), "10.42.3.3");
        assert_eq!(open().allocate("c9\neth0", "d/p").unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        open().release("c0\neth0").unwrap();
        open().release("c3\neth0").unwrap();
        open().release("c3\neth0").unwrap();
        assert_eq!(open().allocate("c9\neth0", "d/p").unwrap().to_string(), "10.42.3.2");
        assert_eq!(open().allocate("c8\neth0", "d/p").unwrap().to_string(), "10.42.3.5");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn who_holds_an_address_is_told() {
        let dir = scratch("held");
        let a = Addresses::open(&dir, "10.42.3.0/24".parse().unwrap()).unwrap();
        let given = a.allocate("c1\neth1", "d/web").unwrap();
        a.allocate("c1\neth10", "d/other").unwrap();
        let held = held(&directory(&dir)).unwrap();
        let web = Holder { owner: "c1\neth1".into(), pod: "d/web".into() };
        assert_eq!((held.len(), &held[&given]), (2, &web));
        let file = directory(&dir).join(given.to_string());
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!restore(&directory(&dir), given, &web).unwrap());
        std::fs::remove_file(&file).unwrap();
        assert!(restore(&directory(&dir), given, &web).unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        assert_eq!(a.find("c1\neth1").unwrap(), Some(given));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_freed_address_rests_before_it_is_used_again() {
        let dir = scratch("rest");
        let a = Addresses::open(&dir, "10.42.3.0/24".parse().unwrap()).unwrap();
        assert_eq!(a.allocate("a\neth0", "d/p").unwrap().to_string(), "10.42.3.2");
        a.release("a\neth0").unwrap();
        assert_eq!(a.allocate("b\neth0", "d/p").unwrap().to_string(), "10.42.3.3");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
