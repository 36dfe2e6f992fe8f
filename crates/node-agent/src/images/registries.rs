//! The node's registry settings (`registries.yaml`, in k3s's form) as containerd and pulls take them.

use super::credentials::Keyring;
use crate::error::{Error, Result};
use kybern_wire::cri as pb;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Mirrors and settings by registry; `*` for those that are not named.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    configs: BTreeMap<String, Registry>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mirror {
    endpoint: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Registry {
    auth: Option<Auth>,
    tls: Option<Tls>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Auth {
    username: String,
    password: String,
    auth: String,
    identity_token: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    insecure_skip_verify: bool,
}

impl Registries {
    /// Reads the file; none is fine.
    ///
    /// # Errors
    /// When it cannot be read as what it should be.
    pub fn load(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(Error::file("read", path))?,
        };
        Self::parse(&text).map_err(|why| Error::Settings { path: path.display().to_string(), why })
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|e| e.to_string())
    }

    /// The credentials it holds.
    pub fn keyring(&self) -> Keyring {
        let mut ring = Keyring::default();
        for (host, config) in &self.configs {
            if let Some(auth) = config.auth.clone() {
                let (username, password, identity_token) = (auth.username, auth.password, auth.identity_token);
                ring.add(
                    host,
                    pb::AuthConfig { username, password, auth: auth.auth, identity_token, ..Default::default() },
                );
            }
        }
        ring
    }

    /// Writes containerd's form, a directory per registry; what was there before goes. `peers`, where there is
    /// one, is a mirror that has content by digest: it is asked before all others.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, dir: &Path, peers: Option<&str>) -> Result<()> {
        if dir.exists() {
            std::fs::remove_dir_all(dir).map_err(Error::file("remove", dir))?;
        }
        // The mirror's URL holds a secret.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::file("create", dir))?;
        let named = self.mirrors.keys().chain(self.configs.keys()).map(String::as_str);
        let hosts: BTreeSet<&str> = named.chain(peers.map(|_| "*")).collect();
        for host in hosts {
            let of_host = dir.join(if host == "*" { "_default" } else { host });
            std::fs::create_dir_all(&of_host).map_err(Error::file("create", &of_host))?;
            let file = of_host.join("hosts.toml");
            std::fs::write(&file, self.hosts_toml(host, peers)).map_err(Error::file("write", &file))?;
        }
        Ok(())
    }

    /// The other nodes, the mirrors in turn, then the registry itself.
    fn hosts_toml(&self, host: &str, peers: Option<&str>) -> String {
        let server = match host {
            "docker.io" => "https://registry-1.docker.io".to_owned(),
            other => format!("https://{other}"),
        };
        let mut text = String::new();
        let mut endpoints: Vec<String> = self.mirrors.get(host).map(|m| m.endpoint.clone()).unwrap_or_default();
        if host != "*" {
            text.push_str(&format!("server = {server:?}\n"));
            if !endpoints.contains(&server) {
                endpoints.push(server);
            }
        }
        if let Some(peers) = peers {
            text.push_str(&format!("\n[host.{peers:?}]\n  capabilities = [\"pull\"]\n"));
        }
        for endpoint in endpoints {
            let bare = endpoint.trim_start_matches("https://").trim_start_matches("http://");
            let own_host = bare.split('/').next().unwrap_or(bare);
            text.push_str(&format!("\n[host.{endpoint:?}]\n  capabilities = [\"pull\", \"resolve\"]\n"));
            let config = self.configs.get(own_host).or_else(|| self.configs.get(host));
            if let Some(tls) = config.and_then(|c| c.tls.as_ref()) {
                text.push_str(&tls.toml());
            }
        }
        text
    }
}

impl Tls {
    fn toml(&self) -> String {
        let quote = |p: &PathBuf| format!("{:?}", p.display().to_string());
        let mut text = String::new();
        if let Some(ca) = &self.ca_file {
            text.push_str(&format!("  ca = {}\n", quote(ca)));
        }
        if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
            text.push_str(&format!("  client = [[{}, {}]]\n", quote(cert), quote(key)));
        }
        if self.insecure_skip_verify {
            text.push_str("  skip_verify = true\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
mirrors:
  docker.io:
    endpoint: [\"https://mirror.example:5000\"]
  \"*\":
    endpoint: [\"http://any.example\"]
configs:
  \"mirror.example:5000\":
    auth: {username: u, password: p}
    tls: {ca_file: /etc/ca.pem}
";

    #[test]
    fn mirrors_come_before_the_registry_with_their_own_ca() {
        let registries = Registries::parse(FILE).unwrap();
        let docker = registries.hosts_toml("docker.io", None);
        let (mirror, own) =
            (docker.find("mirror.example:5000").unwrap(), docker.find("[host.\"https://registry-1").unwrap());
        assert!(
            mirror < own && docker[mirror..own].contains("ca = \"/etc/ca.pem\"") && !docker[own..].contains("ca =")
        );
        assert!(docker.starts_with("server = \"https://registry-1.docker.io\"\n"));
        assert!(!registries.hosts_toml("*", None).contains("server ="));
        let credentials = registries.keyring().for_image("mirror.example:5000/x:1");
        assert_eq!((credentials.len(), credentials[0].username.as_str()), (1, "u"));
    }

    #[test]
    fn other_nodes_are_asked_first_and_never_for_names() {
        let docker = Registries::parse(FILE).unwrap().hosts_toml("docker.io", Some("http://127.0.0.1:1/s"));
        let (peers, mirror) = (docker.find("127.0.0.1").unwrap(), docker.find("mirror.example").unwrap());
        assert!(peers < mirror && !docker[peers..mirror].contains("resolve"));
    }

    #[test]
    fn files_follow_the_settings() {
        let dir = tempfile::tempdir().unwrap();
        let certs = dir.path().join("certs.d");
        Registries::parse(FILE).unwrap().write(&certs, None).unwrap();
        assert!(certs.join("_default/hosts.toml").exists() && certs.join("mirror.example:5000/hosts.toml").exists());
        Registries::default().write(&certs, None).unwrap();
        assert_eq!(std::fs::read_dir(&certs).unwrap().count(), 0);
        Registries::default().write(&certs, Some("http://127.0.0.1:1/s")).unwrap();
        let all = std::fs::read_to_string(certs.join("_default/hosts.toml")).unwrap();
        assert_eq!(all, "\n[host.\"http://127.0.0.1:1/s\"]\n  capabilities = [\"pull\"]\n");
        assert!(Registries::parse("mirors: {}").unwrap_err().contains("mirors"));
        assert!(Registries::load(&dir.path().join("none")).is_ok());
    }
}
