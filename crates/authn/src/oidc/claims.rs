//! What the claims of a verified token make of its bearer. Pure.

use super::config::Jwt;
use kybern_api::attributes::UserInfo;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How far an issuer's clock may be ahead of ours, in seconds.
const SKEW: i64 = 300;

/// Judges times, audience and rules, and names the user.
pub(super) fn user(config: &Jwt, claims: &Map<String, Value>, now: i64) -> Result<UserInfo, String> {
    times(claims, now)?;
    if claims.get("iss").and_then(Value::as_str) != Some(config.issuer.url.as_str()) {
        return Err("of another issuer".into());
    }
    let audiences = texts(claims.get("aud").unwrap_or(&Value::Null)).unwrap_or_default();
    if !audiences.iter().any(|a| config.issuer.audiences.contains(a)) {
        return Err(format!("for another audience: {audiences:?}"));
    }
    for rule in &config.claim_validation_rules {
        let found = claims.get(&rule.claim).and_then(Value::as_str);
        if found != Some(rule.required_value.as_str()) {
            return Err(format!("claim {} has not the required value", rule.claim));
        }
    }
    named(config, claims)
}

fn times(claims: &Map<String, Value>, now: i64) -> Result<(), String> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(|t| Some(t as i64)).ok_or_else(|| format!("claim {name} is no time")),
    };
    if time("exp")?.ok_or("claim exp is missing")? <= now {
        return Err("expired".into());
    }
    if time("nbf")?.is_some_and(|from| from > now.saturating_add(SKEW)) {
        return Err("not valid yet".into());
    }
    Ok(())
}

fn named(config: &Jwt, claims: &Map<String, Value>) -> Result<UserInfo, String> {
    let mappings = &config.claim_mappings;
    let find = |path: Option<Vec<&str>>| path.and_then(|p| at(claims, &p));
    let name = find(mappings.username.path()).and_then(Value::as_str).filter(|n| !n.is_empty());
    let name = name.ok_or("the claim of the user's name is missing, empty or no string")?;
    // An address that its issuer has not verified is whatever its bearer wrote.
    let verified = claims.get("email_verified").is_none_or(|v| *v == Value::Bool(true));
    if mappings.username.is_claim("email") && !verified {
        return Err("its e-mail address is not verified".into());
    }
    let groups = match find(mappings.groups.path()) {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => texts(value).ok_or("the claim of groups is neither a string nor a list of strings")?,
    };
    let uid = match find(mappings.uid.path()) {
        None if mappings.uid.path().is_none() => String::new(),
        Some(Value::String(uid)) => uid.clone(),
        _ => return Err("the claim of the uid is missing or no string".into()),
    };
    let mut extra = BTreeMap::new();
    for entry in &mappings.extra {
        let values = match find(entry.path()) {
            None | Some(Value::Null) => continue,
            Some(value) => {
                texts(value).ok_or_else(|| format!("extra {} is no string or list of strings", entry.key))?
            }
        };
        let values: Vec<String> = values.into_iter().filter(|v| !v.is_empty()).collect();
        if !values.is_empty() {
            extra.insert(entry.key.clone(), values);
        }
    }
    if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
        extra.insert("authentication.kubernetes.io/credential-id".into(), vec![format!("JTI={id}")]);
    }
    Ok(UserInfo {
        name: format!("{}{name}", mappings.username.prefix()),
        groups: groups.into_iter().map(|g| format!("{}{g}", mappings.groups.prefix())).collect(),
        uid,
        extra,
    })
}

fn at<'a>(claims: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.get(*first)?, |value, key| value.get(*key))
}

/// One string or a list of them.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(list) => list.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}
