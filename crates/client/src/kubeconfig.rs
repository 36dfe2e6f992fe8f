//! Kubeconfig files: read to connect, written by the server for its administrator.

use crate::http::HttpConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file, or one it names, cannot be read.
    #[error("cannot read {0}")]
    Read(String, #[source] std::io::Error),
    /// It is no kubeconfig.
    #[error("cannot parse the kubeconfig: {0}")]
    Parse(String),
    /// A name it refers to is not in it.
    #[error("the kubeconfig has no {0} named {1:?}")]
    Missing(&'static str, String),
    /// Data that is not base64.
    #[error("{0} is not base64")]
    Base64(&'static str, #[source] base64::DecodeError),
    /// Keys or certificates that TLS refuses.
    #[error(transparent)]
    Tls(#[from] crate::http::Error),
}

/// The file (`v1`, kind Config), as far as it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    /// `v1`
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// `Config`
    pub kind: String,
    /// Clusters by name.
    pub clusters: Vec<Named<ClusterEntry>>,
    /// Identities by name.
    pub users: Vec<Named<UserEntry>>,
    /// Pairs of them by name.
    pub contexts: Vec<Named<ContextEntry>>,
    /// The context to use.
    pub current_context: String,
}

/// A named entry; which of the members is there depends on the list it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named<T> {
    /// Name.
    pub name: String,
    /// The entry, under the word of its list.
    #[serde(flatten)]
    pub entry: T,
}

/// An entry of `clusters`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterEntry {
    /// The cluster.
    pub cluster: Cluster,
}

/// An entry of `users`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEntry {
    /// The user.
    pub user: User,
}

/// An entry of `contexts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextEntry {
    /// The context.
    pub context: Context,
}

/// Where a cluster is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    /// `https://host:port`
    pub server: String,
    /// CA certificates: base64 of PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<String>,
    /// CA certificates: a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<String>,
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    /// Certificate chain: base64 of PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_data: Option<String>,
    /// Private key: base64 of PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_data: Option<String>,
    /// Certificate chain: a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// Private key: a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<String>,
    /// Bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A cluster and a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the user.
    pub user: String,
    /// Default namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl Kubeconfig {
    /// A file with one cluster and one certificate identity, all under one `name`.
    pub fn with_certificate(name: &str, server: &str, ca_pem: &str, cert_pem: &str, key_pem: &str) -> Self {
        let cluster = Cluster {
            server: server.into(),
            certificate_authority_data: Some(STANDARD.encode(ca_pem)),
            certificate_authority: None,
        };
        let user = User {
            client_certificate_data: Some(STANDARD.encode(cert_pem)),
            client_key_data: Some(STANDARD.encode(key_pem)),
            ..User::default()
        };
        let context = Context { cluster: name.into(), user: name.into(), namespace: None };
        Self {
            api_version: "v1".into(),
            kind: "Config".into(),
            clusters: vec![Named { name: name.into(), entry: ClusterEntry { cluster } }],
            users: vec![Named { name: name.into(), entry: UserEntry { user } }],
            contexts: vec![Named { name: name.into(), entry: ContextEntry { context } }],
            current_context: name.into(),
        }
    }
    /// Reads YAML (or JSON).
    ///
    /// # Errors
    /// When it is no kubeconfig.
    pub fn parse(text: &str) -> Result<Self, Error> {
        serde_saphyr::from_str(text).map_err(|e| Error::Parse(e.to_string()))
    }
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is no kubeconfig.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::Read(path.display().to_string(), e))?;
        Self::parse(&text)
    }
    /// As JSON, which every reader of kubeconfigs takes for YAML.
    ///
    /// # Errors
    /// Never for a value made here.
    pub fn to_text(&self) -> Result<String, Error> {
        serde_json::to_string_pretty(self).map_err(|e| Error::Parse(e.to_string()))
    }
    /// What the current context says about connecting.
    ///
    /// # Errors
    /// When names do not resolve or keys do not fit.
    pub fn connection(&self) -> Result<HttpConfig, Error> {
        let context = &find("context", &self.contexts, &self.current_context)?.context;
        let cluster = &find("cluster", &self.clusters, &context.cluster)?.cluster;
        let user = &find("user", &self.users, &context.user)?.user;
        let ca =
            material("certificate-authority", &cluster.certificate_authority_data, &cluster.certificate_authority)?;
        let cert = material("client-certificate", &user.client_certificate_data, &user.client_certificate)?;
        let key = material("client-key", &user.client_key_data, &user.client_key)?;
        let identity = cert.as_deref().zip(key.as_deref());
        let tls = crate::http::tls_config(ca.as_deref().unwrap_or_default(), identity)?;
        let mut config = HttpConfig::new(vec![cluster.server.clone()], tls);
        if let Some(token) = user.token.clone() {
            config = config.with_token(token);
        }
        Ok(config)
    }
}

fn find<'a, T>(what: &'static str, entries: &'a [Named<T>], name: &str) -> Result<&'a T, Error> {
    entries.iter().find(|e| e.name == name).map(|e| &e.entry).ok_or_else(|| Error::Missing(what, name.to_owned()))
}

/// PEM from inline base64 or from a file; inline wins.
fn material(what: &'static str, data: &Option<String>, file: &Option<String>) -> Result<Option<Vec<u8>>, Error> {
    match (data, file) {
        (Some(data), _) => STANDARD.decode(data).map(Some).map_err(|e| Error::Base64(what, e)),
        (None, Some(file)) => std::fs::read(file).map(Some).map_err(|e| Error::Read(file.clone(), e)),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let k = Kubeconfig::with_certificate("kybern", "https://127.0.0.1:6443", "CA", "CERT", "KEY");
        let text = k.to_text().expect("text");
        assert_eq!(Kubeconfig::parse(&text).expect("parse"), k);
        assert!(text.contains("\"certificate-authority-data\": \"Q0E=\""));
    }

    #[test]
    fn yaml_with_unknown_members_is_read_and_missing_names_are_told() {
        let text = "apiVersion: v1\nkind: Config\npreferences: {}\ncurrent-context: x\nclusters:\n- name: c\n  cluster: {server: 'https://h:1'}\n";
        let k = Kubeconfig::parse(text).expect("parse");
        assert_eq!(k.clusters[0].entry.cluster.server, "https://h:1");
        let err = k.connection().map(|_| ()).expect_err("no context");
        assert!(err.to_string().contains("context"), "{err}");
    }
}
