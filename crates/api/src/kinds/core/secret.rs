//! Secret: confidential data for pods to consume; encrypted at rest.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text};
use crate::tree;
use crate::validate;
use crate::validate::Field;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Secret", "secrets")
        .sealed()
        .select("type")
        .columns([
            name(),
            text("Type", "type"),
            computed("Data", "Number of keys.", |v| cells::size(v, "data").into()),
            age(),
        ])
        .strategy(&Secret)
        .build()
}

struct Secret;

impl Strategy for Secret {
    fn default(&self, obj: &mut Value) {
        tree::set_default(obj, "type", "Opaque");
        if let Some(Value::Object(texts)) = tree::remove(obj, "stringData")
            && let Some(Value::Object(data)) = tree::object(obj, "data")
        {
            let encode = |v: &Value| BASE64.encode(v.as_str().unwrap_or_default());
            data.extend(texts.iter().map(|(k, v)| (k.clone(), encode(v).into())));
        }
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        validate::data_keys(&root, &["data"], out);
        let data = root.field("data");
        let kind = root.field("type");
        for key in REQUIRED_KEYS.iter().filter(|(t, _)| *t == kind.text()).flat_map(|(_, keys)| *keys) {
            if !data.entry(key).present() {
                data.entry(key).required("", out);
            }
        }
        for key in JSON_KEYS.iter().filter(|(t, _)| *t == kind.text()).map(|(_, key)| *key) {
            let found = data.entry(key);
            if found.present() && !is_json(found.text()) {
                found.invalid_value(&"<secret contents redacted>".into(), "must be JSON", out);
            }
        }
        if let Some(old) = old {
            let old = Field::root(old);
            kind.immutable(&old.field("type"), out);
            validate::sealed_data(&root, &old, &["data"], out);
        }
    }
}

/// Keys that must hold JSON.
const JSON_KEYS: [(&str, &str); 2] =
    [("kubernetes.io/dockercfg", ".dockercfg"), ("kubernetes.io/dockerconfigjson", ".dockerconfigjson")];

fn is_json(encoded: &str) -> bool {
    BASE64.decode(encoded).is_ok_and(|bytes| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok())
}

/// The keys that secrets of some types must have.
const REQUIRED_KEYS: [(&str, &[&str]); 4] = [
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_become_data_and_win() {
        let mut secret = json!({"data": {"a": "eA==", "b": "eA=="}, "stringData": {"a": "y"}});
        Secret.default(&mut secret);
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "eQ==", "b": "eA=="}}));
    }
}
