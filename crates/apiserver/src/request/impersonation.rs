//! Acting as somebody else: `Impersonate-*` headers, each judged like a request of its own.

use crate::server::Inner;
use http::HeaderMap;
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::error::Status;
use std::collections::BTreeMap;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const AUTHENTICATED: &str = "system:authenticated";
const ANONYMOUS: &str = "system:anonymous";

impl Inner {
    /// The user a request acts as: the caller, or whom the headers name.
    ///
    /// # Errors
    /// 400 when the headers name no user, 403 when the caller may not act as it.
    pub(crate) async fn impersonate(&self, caller: UserInfo, headers: &HeaderMap) -> Result<UserInfo, Status> {
        let Some(wanted) = wanted(headers)? else { return Ok(caller) };
        for attributes in checks(&caller, &wanted) {
            self.permit(&attributes).await?;
        }
        Ok(completed(wanted))
    }
}

fn text(value: &http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn wanted(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let name = headers.get(USER).map(text).unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in headers {
        if let Some(key) = key.as_str().strip_prefix(EXTRA) {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            extra.entry(key).or_default().push(text(value));
        }
    }
    let user = UserInfo {
        uid: headers.get(UID).map(text).unwrap_or_default(),
        groups: headers.get_all(GROUP).iter().map(text).collect(),
        extra,
        name,
    };
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user.groups.is_empty() && user.extra.is_empty() && user.uid.is_empty() {
        return Ok(None);
    }
    Err(Status::bad_request("requested groups, uid or extra fields without impersonating a user"))
}

/// One permission for each thing that is taken on.
fn checks(caller: &UserInfo, wanted: &UserInfo) -> Vec<Attributes> {
    let one = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Attributes {
        user: caller.clone(),
        verb: "impersonate".into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Attributes::default()
    };
    let mut out = Vec::new();
    match service_account(&wanted.name) {
        Some((namespace, name)) => out.push(one("", "serviceaccounts", "", namespace, name)),
        None => out.push(one("", "users", "", "", &wanted.name)),
    }
    out.extend(wanted.groups.iter().map(|g| one("", "groups", "", "", g)));
    if !wanted.uid.is_empty() {
        out.push(one(AUTHENTICATION, "uids", "", "", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        out.extend(values.iter().map(|v| one(AUTHENTICATION, "userextras", key, "", v)));
    }
    out
}

fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')
}

/// Adds the groups that follow from the name.
fn completed(mut user: UserInfo) -> UserInfo {
    if user.groups.is_empty()
        && let Some((namespace, name)) = service_account(&user.name)
    {
        user.groups = UserInfo::service_account(namespace, name).groups;
    }
    if user.name != ANONYMOUS && !user.is_in(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (http::HeaderName::from_static(k), http::HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn each_part_needs_its_own_permission() {
        let wanted = wanted(&headers(&[(USER, "jane"), (GROUP, "dev"), ("impersonate-extra-scopes", "view")]));
        let wanted = wanted.expect("well formed").expect("a user");
        let asked: Vec<String> = checks(&UserInfo::default(), &wanted)
            .iter()
            .map(|a| format!("{}/{} {}", a.resource, a.subresource, a.name))
            .collect();
        assert_eq!(asked, ["users/ jane", "groups/ dev", "userextras/scopes view"]);
    }

    #[test]
    fn groups_without_a_user_are_refused() {
        assert_eq!(wanted(&headers(&[(GROUP, "dev")])).expect_err("no user").code, 400);
        assert_eq!(wanted(&headers(&[])).expect("nothing asked"), None);
    }

    #[test]
    fn service_accounts_bring_their_groups() {
        let user = completed(UserInfo { name: "system:serviceaccount:a:b".into(), ..UserInfo::default() });
        assert!(user.is_in("system:serviceaccounts:a") && user.is_in(AUTHENTICATED));
    }
}
