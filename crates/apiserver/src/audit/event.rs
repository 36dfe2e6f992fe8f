//! One event and its line: `audit.k8s.io/v1` Event as JSON.

use super::policy::{Level, Stage};
use bytes::Bytes;
use jiff::Timestamp;
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::error::Status;
use serde_json::{Value, json};
use std::net::IpAddr;

/// A larger object is left out of its event, and the event says so.
const MAX_OBJECT: usize = 100 << 10;
/// More characters of a text that a client chose are cut.
const MAX_TEXT: usize = 1024;

/// What is known of a request at one stage.
#[derive(Debug, Clone, Default)]
pub struct Event {
    pub(super) level: Level,
    pub(super) stage: Stage,
    pub(super) id: String,
    pub(super) uri: String,
    pub(super) attributes: Attributes,
    pub(super) acting: Option<UserInfo>,
    pub(super) sources: Vec<IpAddr>,
    pub(super) agent: String,
    pub(super) code: u16,
    pub(super) failure: Option<Box<Status>>,
    pub(super) request: Option<Bytes>,
    pub(super) response: Option<Bytes>,
    pub(super) decision: Option<(&'static str, String)>,
    pub(super) omit_managed_fields: bool,
    pub(super) received: Timestamp,
    pub(super) at: Timestamp,
}

impl Event {
    /// About how much memory it takes while it waits.
    pub(super) fn weight(&self) -> usize {
        let object = |o: &Option<Bytes>| o.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + 512 + self.uri.len() + self.agent.len() + object(&self.request) + object(&self.response)
    }

    /// Keeps an object, or notes that there was one too large to keep.
    pub(super) fn kept(bytes: Bytes) -> Bytes {
        if bytes.len() <= MAX_OBJECT { bytes } else { Bytes::new() }
    }

    /// The event's JSON.
    pub fn to_json(&self) -> Value {
        let a = &self.attributes;
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1",
            "level": self.level.as_str(), "auditID": self.id, "stage": self.stage.as_str(),
            "requestURI": self.request_uri(), "verb": a.verb, "user": a.user,
            "requestReceivedTimestamp": micros(self.received), "stageTimestamp": micros(self.at),
        });
        if let Some(user) = &self.acting {
            event["impersonatedUser"] = json!(user);
        }
        if !self.sources.is_empty() {
            event["sourceIPs"] = json!(self.sources);
        }
        if !self.agent.is_empty() {
            event["userAgent"] = cut(&self.agent).into();
        }
        if a.is_resource() && !a.resource.is_empty() {
            event["objectRef"] = self.object_ref();
        }
        if self.code != 0 {
            event["responseStatus"] = self.status();
        }
        let mut annotations = serde_json::Map::new();
        if let Some((decision, reason)) = &self.decision {
            annotations.insert("authorization.k8s.io/decision".into(), (*decision).into());
            annotations.insert("authorization.k8s.io/reason".into(), cut(reason).into());
        }
        for (key, bytes) in [("requestObject", &self.request), ("responseObject", &self.response)] {
            let Some(bytes) = bytes else { continue };
            match self.object(bytes) {
                Some(object) => event[key] = object,
                None => drop(annotations.insert("audit.k8s.io/truncated".into(), "true".into())),
            }
        }
        if !annotations.is_empty() {
            event["annotations"] = annotations.into();
        }
        event
    }

    fn request_uri(&self) -> String {
        if !self.uri.is_empty() {
            return self.uri.clone();
        }
        let a = &self.attributes;
        let mut uri =
            if a.group.is_empty() { format!("/api/{}", a.version) } else { format!("/apis/{}/{}", a.group, a.version) };
        if !a.namespace.is_empty() {
            uri += &format!("/namespaces/{}", a.namespace);
        }
        for part in [&a.resource, &a.name, &a.subresource].into_iter().filter(|p| !p.is_empty()) {
            uri += &format!("/{part}");
        }
        uri
    }

    fn object_ref(&self) -> Value {
        let a = &self.attributes;
        let mut of = json!({"resource": a.resource, "apiVersion": a.version});
        let parts =
            [("namespace", &a.namespace), ("name", &a.name), ("apiGroup", &a.group), ("subresource", &a.subresource)];
        for (key, value) in parts.into_iter().filter(|(_, v)| !v.is_empty()) {
            of[key] = value.as_str().into();
        }
        of
    }

    fn status(&self) -> Value {
        let Some(failure) = &self.failure else { return json!({"metadata": {}, "code": self.code}) };
        let mut status: Value = serde_json::from_slice(&failure.to_json()).unwrap_or_default();
        if let Some(fields) = status.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        status["message"] = cut(&failure.message).into();
        status
    }

    fn object(&self, bytes: &[u8]) -> Option<Value> {
        let mut object: Value = serde_json::from_slice(bytes).ok()?;
        if self.omit_managed_fields {
            let without = |o: &mut Value| {
                o.get_mut("metadata").and_then(Value::as_object_mut).and_then(|m| m.remove("managedFields"));
            };
            without(&mut object);
            object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(without);
        }
        Some(object)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Kubernetes' MicroTime: always six digits of the second.
fn micros(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
