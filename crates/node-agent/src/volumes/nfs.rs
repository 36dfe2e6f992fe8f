//! NFS volumes: mounted by the system's own `mount`, which needs its helper for NFS.

use crate::error::{Error, Result};
use crate::teardown::mounts_below;
use k8s_openapi::api::core::v1::NFSVolumeSource;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// A server that does not answer hangs the mount. Other pods do not wait for this one.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is found in the program's path.
pub(super) const MOUNT: &str = "mount";

/// What is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Export {
    source: String,
    options: BTreeSet<String>,
}

impl Export {
    /// Of a volume, with the options that a persistent volume has besides.
    pub(super) fn of(volume: &NFSVolumeSource, options: Vec<String>) -> Self {
        let is_v6 = volume.server.parse::<std::net::Ipv6Addr>().is_ok();
        let server = if is_v6 { format!("[{}]", volume.server) } else { volume.server.clone() };
        let read_only = volume.read_only.unwrap_or(false).then(|| "ro".to_owned());
        Self { source: format!("{server}:{}", volume.path), options: options.into_iter().chain(read_only).collect() }
    }

    fn arguments(&self, dir: &Path) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["-t".into(), "nfs".into()];
        if !self.options.is_empty() {
            let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
            all.extend(["-o".into(), options.join(",").into()]);
        }
        // Neither can be taken for an option.
        all.extend(["--".into(), self.source.clone().into(), dir.into()]);
        all
    }
}

/// Mounts it on a directory, unless something is mounted there already.
pub(super) async fn set_up(export: &Export, dir: &Path, program: &str) -> Result<()> {
    // Looking at the directory itself might wait for the server.
    if mounts_below(&[dir]).iter().any(|point| point == dir) {
        return Ok(());
    }
    std::fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    let arguments = export.arguments(dir);
    let told = arguments.join(OsString::from(" ").as_os_str()).display().to_string();
    let failed = |why: String, output: &[u8]| {
        let output = String::from_utf8_lossy(output);
        let command = format!("Mounting command: {program}\nMounting arguments: {told}");
        Error::Pod(format!("mount failed: {why}\n{command}\nOutput: {}\n", output.trim_end()))
    };
    let mut command = tokio::process::Command::new(program);
    command.args(&arguments).stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(PATIENCE, command.output()).await;
    let done = done.map_err(|_| failed(format!("no answer within {} s", PATIENCE.as_secs()), b""))?;
    let done = done.map_err(|e| failed(e.to_string(), b""))?;
    if done.status.success() {
        return Ok(());
    }
    Err(failed(done.status.to_string().replace(": ", " "), &[done.stdout, done.stderr].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn export(server: &str, read_only: bool, options: &[&str]) -> Export {
        let volume = NFSVolumeSource { server: server.into(), path: "/exports/a b".into(), read_only: Some(read_only) };
        Export::of(&volume, options.iter().map(|o| (*o).to_owned()).collect())
    }

    /// A `mount` that writes its arguments down, one a line, and ends as told.
    fn recorder(dir: &Path, end: &str) -> String {
        let program = dir.join("mount");
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > {}/args\n{end}\n", dir.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program.display().to_string()
    }

    #[tokio::test]
    async fn mount_is_told_source_options_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let (program, place) = (recorder(dir.path(), "exit 0"), dir.path().join("v"));
        let cases = [
            (export("nfs.local", false, &[]), "-t nfs -- nfs.local:/exports/a b"),
            (export("nfs.local", true, &["vers=4.2", "ro"]), "-t nfs -o ro,vers=4.2 -- nfs.local:/exports/a b"),
            (export("fd00::1", false, &["soft"]), "-t nfs -o soft -- [fd00::1]:/exports/a b"),
        ];
        for (export, expected) in cases {
            set_up(&export, &place, &program).await.unwrap();
            let seen = std::fs::read_to_string(dir.path().join("args")).unwrap();
            assert_eq!(seen.trim_end().replace('\n', " "), format!("{expected} {}", place.display()));
        }
        assert!(place.is_dir());
    }

    #[tokio::test]
    async fn a_mount_that_fails_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let program = recorder(dir.path(), "echo access denied by server >&2; exit 32");
        let why = set_up(&export("h", false, &[]), &dir.path().join("v"), &program).await.unwrap_err().to_string();
        assert!(why.starts_with("mount failed: exit status 32\nMounting command: "), "{why}");
        assert!(why.ends_with("\nOutput: access denied by server\n"), "{why}");
        let none = set_up(&export("h", false, &[]), &dir.path().join("v"), "/no/such/mount").await.unwrap_err();
        assert!(none.to_string().contains("No such file or directory"), "{none}");
    }

    #[tokio::test]
    async fn what_is_mounted_stays() {
        let dir = tempfile::tempdir().unwrap();
        // It is mounted wherever this runs.
        set_up(&export("h", false, &[]), Path::new("/proc"), &recorder(dir.path(), "exit 1")).await.unwrap();
        assert!(!dir.path().join("args").exists());
    }
}
