//! Kubernetes `Status` answers: one enum of reasons, one place that maps them to codes.

use serde::{Deserialize, Serialize};

/// Machine-readable reason of a failed request (`metav1.StatusReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 406
    NotAcceptable,
    /// 409, the name is taken
    AlreadyExists,
    /// 409, the object changed meanwhile or a precondition failed
    Conflict,
    /// 410, the revision or continue token is too old
    Expired,
    /// 410, the resource is gone
    Gone,
    /// 413
    RequestEntityTooLarge,
    /// 415
    UnsupportedMediaType,
    /// 422
    Invalid,
    /// 429
    TooManyRequests,
    /// 500
    InternalError,
    /// 500, an error inside the server that is no Status (empty reason on the wire)
    #[serde(rename = "")]
    Unknown,
    /// 503
    ServiceUnavailable,
    /// 500, the server asks the client to retry
    ServerTimeout,
    /// 504
    Timeout,
}

impl Reason {
    /// The HTTP status code.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Expired | Self::Gone => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::Unknown | Self::ServerTimeout => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// One cause of a failed request (`metav1.StatusCause`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Cause {
    /// Cause type: `FieldValueInvalid`, `FieldValueRequired`, ...
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Text for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field, for example `spec.ports[0].port`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What the failed request was about (`metav1.StatusDetails`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Resource (or kind, for Invalid).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Uid of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds after which to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<i32>,
}

/// A failed request: the body of every error answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// Why.
    pub reason: Reason,
    /// HTTP code; usually `reason.code()`.
    pub code: u16,
    /// Text for a person.
    pub message: String,
    /// What about.
    pub details: Option<Box<Details>>,
    /// metadata.continue of an Expired list answer.
    pub continue_token: Option<String>,
}

impl Status {
    /// A status with the reason's own code.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, code: reason.code(), message: message.into(), details: None, continue_token: None }
    }
    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }
    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        let m: String = message.into();
        Self::new(Reason::InternalError, format!("Internal error occurred: {m}"))
    }
    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }
    /// 404 for an object. `resource` is the plural; texts follow kubectl's `pods "x" not found`.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::about(
            Reason::NotFound,
            group,
            resource,
            name,
            format!("{} \"{name}\" not found", qualified(group, resource)),
        )
    }
    /// 409 for a name that is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let m = format!("{} \"{name}\" already exists", qualified(group, resource));
        Self::about(Reason::AlreadyExists, group, resource, name, m)
    }
    /// 409 for a lost guard.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let m = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, resource));
        Self::about(Reason::Conflict, group, resource, name, m)
    }
    /// 403 for an object.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let m = if name.is_empty() {
            format!("{} is forbidden: {why}", qualified(group, resource))
        } else {
            format!("{} \"{name}\" is forbidden: {why}", qualified(group, resource))
        };
        Self::about(Reason::Forbidden, group, resource, name, m)
    }
    /// 422 with causes. `kind` is the Kind, as in `Pod "x" is invalid: ...`.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let list: Vec<String> = causes
            .iter()
            .map(|c| if c.field.is_empty() { c.message.clone() } else { format!("{}: {}", c.field, c.message) })
            .collect();
        let text = if list.len() == 1 { list[0].clone() } else { format!("[{}]", list.join(", ")) };
        let mut s = Self::about(
            Reason::Invalid,
            group,
            kind,
            name,
            format!("{} \"{name}\" is invalid: {text}", qualified(group, kind)),
        );
        if let Some(d) = s.details.as_mut() {
            d.causes = causes;
        }
        s
    }
    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after: i32) -> Self {
        let mut s = Self::new(Reason::TooManyRequests, message);
        s.details = Some(Box::new(Details { retry_after_seconds: Some(retry_after), ..Details::default() }));
        s
    }
    /// A status about one object.
    pub fn about(reason: Reason, group: &str, resource: &str, name: &str, message: String) -> Self {
        let details = Details { name: name.into(), group: group.into(), kind: resource.into(), ..Details::default() };
        Self { details: Some(Box::new(details)), ..Self::new(reason, message) }
    }
    /// The JSON body (`kind: Status`).
    pub fn to_json(&self) -> Vec<u8> {
        let mut metadata = serde_json::Map::new();
        if let Some(t) = &self.continue_token {
            metadata.insert("continue".into(), t.clone().into());
        }
        let mut v = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if self.reason != Reason::Unknown {
            v["reason"] = serde_json::json!(self.reason);
        }
        if let Some(d) = &self.details {
            v["details"] = serde_json::json!(d);
        }
        v.to_string().into_bytes()
    }
    /// Reads a `Status` body; None when it is none.
    pub fn from_json(code: u16, body: &[u8]) -> Option<Self> {
        let v: serde_json::Value = serde_json::from_slice(body).ok()?;
        if v.get("kind")?.as_str()? != "Status" {
            return None;
        }
        let reason =
            serde_json::from_value(v.get("reason").cloned().unwrap_or_else(|| "".into())).unwrap_or(Reason::Unknown);
        Some(Self {
            reason,
            code: v.get("code").and_then(|c| c.as_u64()).and_then(|c| u16::try_from(c).ok()).unwrap_or(code),
            message: v.get("message").and_then(|m| m.as_str()).unwrap_or_default().to_owned(),
            details: v.get("details").and_then(|d| serde_json::from_value(d.clone()).ok()).map(Box::new),
            continue_token: None,
        })
    }
}

/// `pods`, or `deployments.apps` for a resource outside the core group.
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}
