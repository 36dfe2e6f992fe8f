//! Bootstrap tokens: `ID.SECRET`, kept as Secrets in kube-system.

use crate::authenticator::{Authenticator, Credentials, Outcome};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use kybern_api::attributes::UserInfo;
use kybern_api::object::Object;
use kybern_api::seam::Lister;
use serde::Deserialize;
use std::collections::HashMap;

pub(crate) const NAMESPACE: &str = "kube-system";
pub(crate) const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
pub(crate) const SECRET_PREFIX: &str = "bootstrap-token-";
pub(crate) const ID_LENGTH: usize = 6;
pub(crate) const SECRET_LENGTH: usize = 16;
/// The group of everybody who shows one; further groups must lie below it.
pub(crate) const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// The bootstrap-token authenticator.
#[derive(Debug, Default, Clone, Copy)]
pub struct BootstrapTokens;

impl Authenticator for BootstrapTokens {
    fn authenticate(&self, credentials: &Credentials<'_>, objects: &dyn Lister) -> Outcome {
        let token = credentials.bearer.filter(|_| credentials.audiences.is_empty());
        let Some((id, secret)) = token.and_then(split) else { return Outcome::NoOpinion };
        let object = objects.get("", "secrets", NAMESPACE, &format!("{SECRET_PREFIX}{id}"));
        let Some(object) = object else { return Outcome::Absent(format!("bootstrap token {id}: no such token")) };
        match check(&object, id, secret, credentials.now) {
            Ok(user) => Outcome::Known(user),
            Err(why) => Outcome::Rejected(format!("bootstrap token {id}: {why}")),
        }
    }
}

/// The two parts of a well-formed token.
pub(crate) fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && plain(id) && plain(secret)).then_some((id, secret))
}

#[derive(Deserialize)]
struct SecretView {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    data: HashMap<String, String>,
}

impl SecretView {
    fn text(&self, key: &str) -> Option<String> {
        String::from_utf8(STANDARD.decode(self.data.get(key)?).ok()?).ok()
    }
}

fn check(object: &Object, id: &str, secret: &str, now: i64) -> Result<UserInfo, &'static str> {
    if object.head.deleting.is_some() {
        return Err("it is being deleted");
    }
    let view: SecretView = object.view().map_err(|_| "its Secret is malformed")?;
    if view.kind != SECRET_TYPE || view.text("token-id").as_deref() != Some(id) {
        return Err("its Secret is of another type or id");
    }
    let known = view.text("token-secret").unwrap_or_default();
    // in constant time; lengths are public
    aws_lc_rs::constant_time::verify_slices_are_equal(known.as_bytes(), secret.as_bytes())
        .map_err(|_| "wrong secret")?;
    if let Some(text) = view.text("expiration") {
        let expires: Timestamp = text.parse().map_err(|_| "its expiration is no time")?;
        if now >= expires.as_second() {
            return Err("expired");
        }
    }
    if view.text("usage-bootstrap-authentication").as_deref() != Some("true") {
        return Err("not for authentication");
    }
    let mut groups = vec![BOOTSTRAPPERS.to_owned()];
    groups.extend(extra_groups(&view.text("auth-extra-groups").unwrap_or_default())?);
    Ok(UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() })
}

/// A comma-separated list; each group must lie below `system:bootstrappers:`, so that no token makes
/// its bearer a `system:masters`.
fn extra_groups(list: &str) -> Result<Vec<String>, &'static str> {
    let below = |group: &str| {
        group.strip_prefix(BOOTSTRAPPERS).and_then(|rest| rest.strip_prefix(':')).is_some_and(|rest| {
            rest.len() <= 256
                && rest.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' || c == '-')
        })
    };
    list.split(',')
        .filter(|group| !group.is_empty())
        .map(|group| if below(group) { Ok(group.to_owned()) } else { Err("a group outside system:bootstrappers:") })
        .collect()
}
