//! CertificateSigningRequest: asks a signer for a certificate.

use crate::attributes::UserInfo;
use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::meta::names;
use crate::meta::time;
use crate::tree;
use crate::validate::Field;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

pub(super) fn row() -> KindDef {
    Row::new("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests")
        .cluster()
        .short(&["csr"])
        .sub("approval", "CertificateSigningRequest", &["get", "patch", "update"])
        .status()
        .select("spec.signerName")
        .columns([
            name(),
            age(),
            text_or("SignerName", "spec.signerName", cells::NONE),
            text("Requestor", "spec.username"),
            computed("RequestedDuration", "Lifetime that was asked for.", |v| {
                tree::int(v.obj, "spec.expirationSeconds")
                    .map_or(cells::NONE.into(), |s| time::human_duration(s).into())
            }),
            computed("Condition", "How far the request is.", |v| condition(v.obj)),
        ])
        .strategy(&CertificateSigningRequest)
        .build()
}

fn condition(obj: &Value) -> Value {
    let has = |kind: &str| cells::condition(obj, kind).is_some();
    let decision = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if tree::text(obj, "status.certificate").is_empty() { "" } else { ",Issued" };
    format!("{decision}{failed}{issued}").into()
}

struct CertificateSigningRequest;

impl Strategy for CertificateSigningRequest {
    fn prepare(&self, ctx: &Context<'_>, obj: &mut Value, old: Option<&Value>) {
        match old {
            None => {
                tree::remove(obj, "status");
            }
            Some(old) => {
                keep_other_part(obj, old, ctx.subresource);
                let now = time::time(ctx.now);
                if let Some(status) = obj.get_mut("status") {
                    tree::each(status, "conditions", |condition| stamp(condition, old, &now));
                }
            }
        }
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        request(&root.field("spec"), out);
        conditions(&root, old, out);
        let Some(old) = old else { return };
        let old = Field::root(old);
        root.field("spec").immutable(&old.field("spec"), out);
        let (status, before) = (root.field("status"), old.field("status"));
        if before.field("certificate").set() {
            status.field("certificate").immutable(&before.field("certificate"), out);
        }
    }
    /// The requester is who asks, whatever the body says.
    fn created_by(&self, obj: &mut Value, user: &UserInfo) {
        let Some(spec) = tree::object(obj, "spec").and_then(Value::as_object_mut) else { return };
        for (key, value) in [
            ("username", json!(user.name)),
            ("uid", json!(user.uid)),
            ("groups", json!(user.groups)),
            ("extra", json!(user.extra)),
        ] {
            let empty = value.as_str().is_some_and(str::is_empty)
                || value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty);
            if empty {
                spec.remove(key)
            } else {
                spec.insert(key.to_owned(), value)
            };
        }
    }
    fn counts_generation(&self, _def: &KindDef) -> bool {
        false
    }
}

/// Shortest lifetime that can be asked for, in seconds.
const EXPIRATION_MIN: i64 = 600;

fn request(spec: &Field<'_, '_>, out: &mut Causes) {
    let pem = BASE64.decode(spec.field("request").text()).unwrap_or_default();
    if !pem.trim_ascii_start().starts_with(b"-----BEGIN CERTIFICATE REQUEST-----") {
        let text = "PEM block type must be CERTIFICATE REQUEST";
        spec.field("request").invalid_value(&spec.field("request").text().into(), text, out);
    }
    if spec.field("usages").is_empty() {
        spec.field("usages").required("", out);
    }
    let signer = spec.field("signerName");
    let well_formed = signer
        .text()
        .split_once('/')
        .is_some_and(|(domain, path)| names::subdomain(domain).is_empty() && domain.contains('.') && !path.is_empty());
    if signer.demand(out) && !well_formed {
        signer.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'", out);
    }
    let expiration = spec.field("expirationSeconds");
    if expiration.int().is_some_and(|s| s < EXPIRATION_MIN) {
        expiration.invalid("may not specify a duration less than 600 seconds", out);
    }
}

/// Decisions are True, exclude each other, and stay.
fn conditions(root: &Field<'_, '_>, old: Option<&Value>, out: &mut Causes) {
    let status = root.field("status");
    let list = status.field("conditions");
    for condition in list.items() {
        let (kind, state) = (condition.field("type"), condition.field("status"));
        kind.demand(out);
        if matches!(kind.text(), "Approved" | "Denied" | "Failed") && state.text() != "True" {
            state.unsupported(&["True"], out);
        }
    }
    let has = |kind: &str| cells::condition(root.value, kind).is_some();
    if has("Approved") && has("Denied") {
        list.invalid("Approved and Denied conditions are mutually exclusive", out);
    }
    for kind in ["Approved", "Denied", "Failed"] {
        if old.is_some_and(|o| cells::condition(o, kind).is_some()) && !has(kind) {
            list.forbidden(&format!("updates may not remove a condition of type \"{kind}\""), out);
        }
    }
}

/// The conditions that `approval` may write, and `status` may not.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

/// Deciding and signing are different rights: a write to `approval` takes the decisions and nothing
/// else of the status, a write to `status` everything else.
fn keep_other_part(obj: &mut Value, old: &Value, subresource: &str) {
    let conditions = |from: &Value, decisions: bool| -> Vec<Value> {
        let list = tree::list(from, "status.conditions").iter();
        list.filter(|c| DECISIONS.contains(&tree::text(c, "type")) == decisions).cloned().collect()
    };
    let (others, decisions) = match subresource {
        "approval" => (conditions(old, false), conditions(obj, true)),
        "status" => (conditions(obj, false), conditions(old, true)),
        _ => return,
    };
    if subresource == "approval" {
        tree::copy(obj, old, "status");
    }
    let merged = [others, decisions].concat();
    if let Some(status) = tree::object(obj, "status") {
        tree::remove(status, "conditions");
        if !merged.is_empty() {
            tree::set_if_absent(status, "conditions", merged);
        }
    }
}

/// Conditions say when they were written, and since when they hold.
fn stamp(condition: &mut Value, old: &Value, now: &str) {
    let before = cells::condition(old, tree::text(condition, "type"));
    let held =
        before.filter(|b| b.get("status") == condition.get("status")).map(|b| tree::text(b, "lastTransitionTime"));
    let since = held.filter(|t| !t.is_empty()).unwrap_or(now).to_owned();
    tree::set_default(condition, "lastUpdateTime", now);
    tree::set_default(condition, "lastTransitionTime", since);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    #[test]
    fn approval_and_status_write_their_own_part() {
        let def = kinds::find("certificates.k8s.io", "certificatesigningrequests").expect("a row");
        let status = json!({"certificate": "eA==", "conditions": [
            {"type": "Approved", "status": "True"}, {"type": "Failed", "status": "True"}]});
        let written = |subresource: &str| {
            let ctx = Context { def, subresource, now: jiff::Timestamp::UNIX_EPOCH };
            let mut obj = json!({ "spec": {}, "status": status });
            CertificateSigningRequest.prepare(&ctx, &mut obj, Some(&json!({"spec": {}})));
            let types: Vec<String> = tree::list(&obj, "status.conditions")
                .iter()
                .map(|c| format!("{} since {}", tree::text(c, "type"), tree::text(c, "lastTransitionTime")))
                .collect();
            (types, tree::text(&obj, "status.certificate").to_owned())
        };
        assert_eq!(written("approval"), (vec!["Approved since 1970-01-01T00:00:00Z".into()], String::new()));
        assert_eq!(written("status"), (vec!["Failed since 1970-01-01T00:00:00Z".into()], "eA==".into()));
    }

    #[test]
    fn the_requester_is_who_asks() {
        let mut obj = json!({"spec": {"username": "admin", "groups": ["system:masters"], "uid": "1"}});
        let user = UserInfo { name: "bob".into(), groups: vec!["staff".into()], ..UserInfo::default() };
        CertificateSigningRequest.created_by(&mut obj, &user);
        assert_eq!(obj, json!({"spec": {"username": "bob", "groups": ["staff"]}}));
    }
}
