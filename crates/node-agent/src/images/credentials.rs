//! Registry credentials: from the docker config secrets that pods name, and from the node's own settings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kybern_wire::cri as pb;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One entry of a docker config file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    /// `user:password` in base64.
    auth: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
    #[serde(rename = "registrytoken")]
    registry_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

/// Credentials by what they are for.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    /// (registry and path prefix, credential)
    entries: Vec<(String, pb::AuthConfig)>,
}

impl Keyring {
    /// Adds what a secret holds (`kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add_secret(&mut self, secret: &Secret) -> Result<(), String> {
        let data = secret.data.as_ref();
        let value = |key: &str| data.and_then(|d| d.get(key)).map(|v| v.0.as_slice());
        let auths = if let Some(json) = value(".dockerconfigjson") {
            serde_json::from_slice::<DockerConfig>(json).map_err(|e| e.to_string())?.auths
        } else if let Some(json) = value(".dockercfg") {
            serde_json::from_slice(json).map_err(|e| e.to_string())?
        } else {
            return Err("it holds no docker config".into());
        };
        self.entries.extend(auths.into_iter().map(|(key, entry)| (scope(&key), entry.into())));
        Ok(())
    }

    /// Adds a registry's user.
    pub fn add(&mut self, registry: &str, credential: pb::AuthConfig) {
        self.entries.push((scope(registry), credential));
    }

    /// Everything of another keyring, after what is here.
    pub fn extend(&mut self, other: &Self) {
        self.entries.extend(other.entries.iter().cloned());
    }

    /// The credentials to try for an image (its full reference), the most specific first.
    pub fn for_image(&self, image: &str) -> Vec<pb::AuthConfig> {
        let mut found: Vec<&(String, pb::AuthConfig)> = self.entries.iter().filter(|(s, _)| covers(s, image)).collect();
        found.sort_by_key(|(scope, _)| std::cmp::Reverse(scope.len()));
        found.into_iter().map(|(_, credential)| credential.clone()).collect()
    }
}

impl From<Entry> for pb::AuthConfig {
    fn from(entry: Entry) -> Self {
        let decoded = STANDARD.decode(entry.auth.trim()).ok().and_then(|b| String::from_utf8(b).ok());
        let (username, password) = match decoded.as_deref().and_then(|d| d.split_once(':')) {
            Some((user, password)) => (user.to_owned(), password.trim_end_matches('\0').to_owned()),
            None => (entry.username, entry.password),
        };
        let (identity_token, registry_token) = (entry.identity_token, entry.registry_token);
        Self { username, password, identity_token, registry_token, ..Self::default() }
    }
}

/// A config's key as host and path: without scheme, and without the API path that old clients wrote.
fn scope(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.trim_end_matches("/v1").trim_end_matches("/v2").trim_end_matches('/');
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        other => other.into(),
    }
}

/// Does a scope cover an image? Its host may have `*` for a part between dots; its path is a prefix.
fn covers(scope: &str, image: &str) -> bool {
    let (host, path) = scope.split_once('/').unwrap_or((scope, ""));
    let (image_host, image_path) = image.split_once('/').unwrap_or((image, ""));
    let split =
        |h: &str| h.rsplit_once(':').map_or((h.to_owned(), String::new()), |(h, p)| (h.to_owned(), p.to_owned()));
    let ((host, port), (image_host, image_port)) = (split(host), split(image_host));
    let parts = |h: &str| h.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (wanted, there) = (parts(&host), parts(&image_host));
    let same_host = wanted.len() == there.len() && wanted.iter().zip(&there).all(|(w, t)| glob(w, t));
    same_host && port == image_port && image_path.starts_with(path)
}

/// `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|i| rest.is_char_boundary(*i)).any(|i| glob(after, &rest[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use serde_json::json;

    fn secret(key: &str, value: &serde_json::Value) -> Secret {
        let data = BTreeMap::from([(key.to_owned(), ByteString(value.to_string().into_bytes()))]);
        Secret { data: Some(data), ..Secret::default() }
    }
    fn users(ring: &Keyring, image: &str) -> Vec<String> {
        ring.for_image(image).into_iter().map(|a| a.username).collect()
    }

    #[test]
    fn both_kinds_of_secrets_are_read() {
        let mut ring = Keyring::default();
        let auth = STANDARD.encode("ann:pa:ss");
        let json = json!({"auths": {"https://reg.example:5000/v1/": {"auth": auth}, "reg.example:5000/team": {"username": "bob", "password": "x"}}});
        ring.add_secret(&secret(".dockerconfigjson", &json)).unwrap();
        ring.add_secret(&secret(".dockercfg", &json!({"https://index.docker.io/v1/": {"username": "carl"}}))).unwrap();
        assert_eq!(users(&ring, "reg.example:5000/team/app:1"), ["bob", "ann"], "the longest scope first");
        assert_eq!(ring.for_image("reg.example:5000/x:1")[0].password, "pa:ss");
        assert_eq!(users(&ring, "docker.io/library/busybox:1"), ["carl"]);
        assert!(users(&ring, "reg.example/team/app:1").is_empty(), "another port is another registry");
    }

    #[test]
    fn what_is_no_docker_config_is_said() {
        let mut ring = Keyring::default();
        assert!(ring.add_secret(&secret("password", &json!("x"))).is_err());
        assert!(ring.add_secret(&secret(".dockerconfigjson", &json!(["x"]))).is_err());
        assert!(ring.for_image("a.b/c:1").is_empty());
    }

    #[test]
    fn hosts_may_have_wildcards() {
        assert!(covers("*.example.com", "a.example.com/x:1") && covers("reg*.example.com", "reg1.example.com/x:1"));
        assert!(!covers("*.example.com", "a.b.example.com/x:1") && !covers("example.com", "a.example.com/x:1"));
        assert!(covers("a.b/team", "a.b/team/app:1") && !covers("a.b/team", "a.b/other/app:1"));
    }
}
