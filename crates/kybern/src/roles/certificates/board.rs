//! What leader, servers and nodes tell each other: a ConfigMap that everybody concerned may read, and a
//! Secret with the sealed keys.

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kybern_api::certificates::{CA, CONFIG_MAP, GENERATION, LEAVES, NAMESPACE};
use kybern_api::object::Object;
use kybern_authn::pki::ClusterKeys;
use kybern_authn::seal::KeyRing;
use kybern_client::transport::{Resource, Selection, Target};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Key of the ConfigMap: what was asked for last ([`Request`]).
pub(crate) const REQUEST: &str = "request";
/// Key: the request that was fulfilled last.
const DONE: &str = "done";
/// Key: what the present step waits for, for people.
const STATUS: &str = "status";
/// Key: when the present step was published.
const SINCE: &str = "since";
/// Keys with this prefix are servers' names: the step that each has taken.
const SERVER: &str = "server.";
/// The Secret with the keys.
const SECRET: &str = "kybern-cluster-keys";
/// Its key.
const BUNDLE: &str = "bundle";

/// What shall be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The servers' and nodes' certificates.
    Leaves,
    /// The CAs, and so those too.
    Authorities,
}

/// A wish for new certificates: `leaves/ID` or `authorities/ID/SECONDS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    /// Tells it from others.
    pub(crate) id: String,
    /// How long each step of a replacement of CAs lasts at least, for clients that read the CAs now and then.
    pub(crate) pause: SignedDuration,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Leaves => write!(f, "leaves/{}", self.id),
            Kind::Authorities => write!(f, "authorities/{}/{}", self.id, self.pause.as_secs()),
        }
    }
}

impl FromStr for Request {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, id, pause) = match parts.as_slice() {
            ["leaves", id] => (Kind::Leaves, *id, SignedDuration::ZERO),
            ["authorities", id, seconds] => {
                (Kind::Authorities, *id, SignedDuration::from_secs(seconds.parse::<u32>()?.into()))
            }
            _ => bail!("{text:?} is no request for new certificates"),
        };
        Ok(Self { kind, id: id.to_owned(), pause })
    }
}

/// What the ConfigMap says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Board {
    /// The step that was published; None: none yet.
    pub(crate) generation: Option<u64>,
    pub(crate) leaves: u64,
    pub(crate) ca: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) request: String,
    pub(crate) done: String,
    pub(crate) status: String,
    pub(crate) servers: BTreeMap<String, u64>,
}

impl Board {
    /// Reads the ConfigMap; what cannot be read was not said.
    pub(crate) fn read(object: &Object) -> Self {
        let mut data = object.view::<ConfigMap>().ok().and_then(|map| map.data).unwrap_or_default();
        let servers = data.iter().filter_map(|(k, v)| Some((k.strip_prefix(SERVER)?.to_owned(), v.parse().ok()?)));
        let servers = servers.collect();
        let mut take = |key: &str| data.remove(key).unwrap_or_default();
        Self {
            generation: take(GENERATION).parse().ok(),
            leaves: take(LEAVES).parse().unwrap_or_default(),
            ca: take(CA),
            since: take(SINCE).parse().ok(),
            request: take(REQUEST),
            done: take(DONE),
            status: take(STATUS),
            servers,
        }
    }
}

/// What servers and nodes are told of a set of keys.
pub(super) fn published(keys: &ClusterKeys, now: Timestamp) -> Value {
    json!({
        CA: keys.server_ca.certificate_pem(),
        GENERATION: keys.rotation.generation.to_string(),
        LEAVES: keys.rotation.leaves.to_string(),
        SINCE: now.to_string(),
    })
}

pub(super) fn requested(request: &Request) -> Value {
    json!({ REQUEST: request.to_string() })
}

pub(super) fn done(request: &str) -> Value {
    json!({ DONE: request, STATUS: "done" })
}

pub(super) fn status(text: &str) -> Value {
    json!({ STATUS: text })
}

/// What a server says of itself.
pub(super) fn taken(server: &str, generation: u64) -> Value {
    json!({ format!("{SERVER}{server}"): generation.to_string() })
}

/// The Secret that holds this set.
pub(super) fn sealed(keys: &ClusterKeys, revision: Option<u64>) -> Result<Value> {
    let sealed = keys.sealing.seal(keys.to_bundle()?.as_bytes(), SECRET.as_bytes())?;
    let mut secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kybern.io/cluster-keys",
        "metadata": { "name": SECRET, "namespace": NAMESPACE },
        "data": { BUNDLE: STANDARD.encode(STANDARD.encode(sealed)) },
    });
    if let Some(revision) = revision {
        secret["metadata"]["resourceVersion"] = revision.to_string().into();
    }
    Ok(secret)
}

/// The set that the Secret holds.
pub(super) fn opened(object: &Object, ring: &KeyRing) -> Result<ClusterKeys> {
    let secret: Secret = object.view()?;
    let text = secret.data.as_ref().and_then(|d| d.get(BUNDLE)).context("the Secret with the keys is empty")?;
    let plain = ring.open(&STANDARD.decode(&text.0)?, SECRET.as_bytes())?;
    Ok(ClusterKeys::from_bundle(std::str::from_utf8(&plain)?)?)
}

/// The ConfigMap, or the Secret.
pub(super) fn target(plural: &str, name: &str) -> Target {
    Target {
        resource: Resource::new("", "v1", plural),
        namespace: NAMESPACE.into(),
        name: name.into(),
        subresource: String::new(),
        query: Vec::new(),
        term: 0,
    }
}

pub(super) fn map_target() -> Target {
    target("configmaps", CONFIG_MAP)
}

pub(super) fn secret_target() -> Target {
    target("secrets", SECRET)
}

/// What an informer of one of them selects.
pub(super) fn selection(of: &Target) -> Selection {
    Selection { namespace: of.namespace.clone(), fields: format!("metadata.name={}", of.name), ..Selection::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_api::object::Head;
    use std::sync::Arc;

    fn object(tree: &Value) -> Object {
        Object { head: Arc::new(Head::default()), revision: 1, bytes: tree.to_string().into() }
    }

    #[test]
    fn requests_are_written_and_read() {
        for text in ["leaves/a-b", "authorities/a-b/300"] {
            assert_eq!(text.parse::<Request>().unwrap().to_string(), text);
        }
        for wrong in ["", "leaves", "leaves/a/1", "authorities/a", "authorities/a/-1", "authorities/a/soon", "x/a"] {
            assert!(wrong.parse::<Request>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_board_is_read_as_far_as_it_can_be() {
        let data = json!({"generation": "3", "leaves": "2", "server.s1": "3", "server.s2": "x", "request": "leaves/a"});
        let board = Board::read(&object(&json!({ "data": data })));
        assert_eq!((board.generation, board.leaves, board.request.as_str()), (Some(3), 2, "leaves/a"));
        assert_eq!(board.servers, BTreeMap::from([("s1".to_owned(), 3)]));
        assert_eq!(Board::read(&object(&json!([]))), Board::default());
    }

    #[test]
    fn keys_travel_sealed_and_nobody_else_can_forge_them() {
        let now = Timestamp::from_second(1_900_000_000).unwrap();
        let keys = ClusterKeys::create(now).unwrap();
        let secret = sealed(&keys, Some(7)).unwrap();
        assert!(!secret.to_string().contains("PRIVATE") && secret["metadata"]["resourceVersion"] == "7");
        let stored = object(&secret);
        let found = opened(&stored, &keys.sealing).unwrap();
        assert_eq!(found.to_bundle().unwrap(), keys.to_bundle().unwrap());
        let stranger = ClusterKeys::create(now).unwrap();
        assert!(opened(&object(&sealed(&stranger, None).unwrap()), &keys.sealing).is_err(), "sealed by another");
        assert!(opened(&object(&json!({"data": {"bundle": "AAAA"}})), &keys.sealing).is_err());
        assert!(opened(&object(&json!({})), &keys.sealing).is_err());
    }
}
