//! kubeconfig files.

use super::authority::Issued;
use super::files::write_private;
use crate::error::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::path::Path;

/// One cluster, one user, one context, with all data embedded.
#[derive(Debug, Clone, Copy)]
pub struct Kubeconfig<'a> {
    /// Name of the cluster, and of the context.
    pub cluster: &'a str,
    /// URL of the API.
    pub server: &'a str,
    /// PEM of the CAs that sign the servers' certificates.
    pub ca: &'a str,
    /// Name of the user's entry.
    pub user: &'a str,
    /// The user's certificate and key.
    pub identity: &'a Issued,
}

impl Kubeconfig<'_> {
    /// The YAML text.
    pub fn to_yaml(&self) -> String {
        // a JSON string is a YAML string too
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {cluster}\n  cluster:\n    server: {server}\n    \
             certificate-authority-data: {ca}\nusers:\n- name: {user}\n  user:\n    \
             client-certificate-data: {certificate}\n    client-key-data: {key}\ncontexts:\n- name: {cluster}\n  \
             context:\n    cluster: {cluster}\n    user: {user}\ncurrent-context: {cluster}\n",
            cluster = quote(self.cluster),
            server = quote(self.server),
            ca = STANDARD.encode(self.ca),
            user = quote(self.user),
            certificate = STANDARD.encode(&self.identity.chain),
            key = STANDARD.encode(&self.identity.key),
        )
    }

    /// Writes it with mode 600.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_private(path, self.to_yaml().as_bytes(), false)
    }
}
