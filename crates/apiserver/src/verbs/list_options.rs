//! The parameters of lists and watches, checked as Kubernetes checks them.

use crate::request::query::{Query, invalid_option, revision, unsupported_option};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kybern_api::error::Status;
use serde::{Deserialize, Serialize};

const KIND: &str = "ListOptions";
const MATCH: &str = "resourceVersionMatch";

/// Which revision a list is served at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At least everything committed before the request.
    Latest,
    /// Whatever is at hand.
    Any,
    /// At least this revision.
    NotOlderThan(u64),
    /// This revision.
    Exact(u64),
}

/// The parameters of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOptions {
    /// Revision.
    pub at: At,
    /// Most items of a page; 0: all.
    pub limit: usize,
    /// First key of the page.
    pub start: Option<String>,
}

/// Where the next page begins.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// The token of a page that begins at `start`. Revision -1: at the newest revision, inconsistently.
pub fn token(revision: i64, start: &str) -> String {
    let token = Token { v: TOKEN_VERSION.into(), rv: revision, start: start.into() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn read_token(text: &str) -> Result<Token, Status> {
    let refuse = |why: String| Status::bad_request(format!("continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| refuse(e.to_string()))?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|e| refuse(e.to_string()))?;
    if token.v != TOKEN_VERSION || token.start.is_empty() || token.rv == 0 || token.rv < -1 {
        return Err(refuse(format!("incorrect encoded start resourceVersion or version ({} {})", token.rv, token.v)));
    }
    Ok(token)
}

impl ListOptions {
    /// Reads and checks the parameters; `prefix` is that of the namespace, which a token must keep.
    ///
    /// # Errors
    /// 400 and 422 as `validation.md` §2 tells them apart.
    pub fn parse(query: &Query, prefix: &str) -> Result<Self, Status> {
        if query.has("sendInitialEvents") {
            let text = "Forbidden: sendInitialEvents is forbidden for list".to_owned();
            return Err(invalid_option(KIND, "sendInitialEvents", "FieldValueForbidden", text));
        }
        let limit = usize::try_from(query.integer("limit")?.unwrap_or(0)).unwrap_or(0);
        let (rv, matching) = (query.get("resourceVersion"), query.get(MATCH));
        if let Some(text) = query.get("continue") {
            return Self::go_on(text, limit, rv, matching, prefix);
        }
        Ok(Self { at: at(rv, matching, limit)?, limit, start: None })
    }

    fn go_on(text: &str, limit: usize, rv: Option<&str>, matching: Option<&str>, prefix: &str) -> Result<Self, Status> {
        if matching.is_some() {
            let text = format!("Forbidden: {MATCH} is forbidden when continue is provided");
            return Err(invalid_option(KIND, MATCH, "FieldValueForbidden", text));
        }
        if rv.is_some_and(|r| r != "0") {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let token = read_token(text)?;
        if !token.start.starts_with(prefix) {
            return Err(Status::bad_request("continue key is not valid: it is for another prefix"));
        }
        let at = u64::try_from(token.rv).map_or(At::Latest, At::Exact);
        Ok(Self { at, limit, start: Some(token.start) })
    }
}

fn at(rv: Option<&str>, matching: Option<&str>, limit: usize) -> Result<At, Status> {
    let forbidden = |text: &str| invalid_option(KIND, MATCH, "FieldValueForbidden", format!("Forbidden: {text}"));
    match (matching, rv) {
        (None, None) => Ok(At::Latest),
        (Some("Exact" | "NotOlderThan"), None) => {
            Err(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        }
        (Some("Exact"), Some("0")) => {
            Err(forbidden("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""))
        }
        (None | Some("NotOlderThan"), Some("0")) => Ok(At::Any),
        (Some("Exact"), Some(n)) => Ok(At::Exact(revision(n)?)),
        (Some("NotOlderThan"), Some(n)) => Ok(At::NotOlderThan(revision(n)?)),
        (None, Some(n)) if limit > 0 => Ok(At::Exact(revision(n)?)),
        (None, Some(n)) => Ok(At::NotOlderThan(revision(n)?)),
        (Some(other), _) => Err(unsupported_option(KIND, MATCH, other, &["Exact", "NotOlderThan"])),
    }
}

/// The parameters of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOptions {
    /// Where it begins.
    pub at: At,
    /// Present objects come first as ADDED.
    pub initial: bool,
    /// A bookmark follows the initial objects.
    pub mark_initial: bool,
    /// Bookmarks are wanted.
    pub bookmarks: bool,
    /// Seconds until the stream ends, if the client says so.
    pub timeout: Option<u64>,
    /// The watch is read within this process.
    pub prompt: bool,
}

impl WatchOptions {
    /// Reads and checks the parameters.
    ///
    /// # Errors
    /// 422 as `validation.md` §11 says.
    pub fn parse(query: &Query) -> Result<Self, Status> {
        let bookmarks = query.flag("allowWatchBookmarks");
        let timeout = query.integer("timeoutSeconds")?.and_then(|t| u64::try_from(t).ok()).filter(|t| *t > 0);
        let send = query.maybe_flag("sendInitialEvents");
        let (rv, matching) = (query.get("resourceVersion"), query.get(MATCH));
        check_watch_match(send, matching)?;
        let number = |n: &str| {
            revision(n).map_err(|s| {
                invalid_option(KIND, "resourceVersion", "FieldValueInvalid", format!("Invalid value: \"{n}\": {s}"))
            })
        };
        let at = match (rv, send) {
            (None, _) => At::Latest,
            (Some("0"), _) => At::Any,
            (Some(n), Some(true)) => At::NotOlderThan(number(n)?),
            (Some(n), _) => At::Exact(number(n)?),
        };
        let initial = send.unwrap_or(matches!(at, At::Latest | At::Any));
        Ok(Self { at, initial, mark_initial: send == Some(true) && bookmarks, bookmarks, timeout, prompt: false })
    }
}

fn check_watch_match(send: Option<bool>, matching: Option<&str>) -> Result<(), Status> {
    match (send, matching) {
        (Some(_), Some("NotOlderThan")) | (None, None) => Ok(()),
        (Some(_), _) => {
            let text = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan".to_owned();
            Err(invalid_option(KIND, MATCH, "FieldValueForbidden", text))
        }
        (None, Some(_)) => {
            let text = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
                .to_owned();
            Err(invalid_option(KIND, MATCH, "FieldValueForbidden", text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_of_lists() {
        let exact = Ok(At::Exact(7));
        let cases = [
            ("", Ok(At::Latest)),
            ("limit=5", Ok(At::Latest)),
            ("resourceVersion=0", Ok(At::Any)),
            ("resourceVersion=7", Ok(At::NotOlderThan(7))),
            ("resourceVersion=7&limit=5", exact),
            ("resourceVersion=7&resourceVersionMatch=Exact", exact),
            ("resourceVersion=7&resourceVersionMatch=NotOlderThan&limit=5", Ok(At::NotOlderThan(7))),
            ("resourceVersionMatch=Exact", Err(422)),
            ("resourceVersion=0&resourceVersionMatch=Exact", Err(422)),
            ("resourceVersion=7&resourceVersionMatch=Newest", Err(422)),
            ("resourceVersion=x", Err(400)),
            ("sendInitialEvents=true", Err(422)),
            ("continue=AAAA", Err(400)),
        ];
        for (text, want) in cases {
            let got = ListOptions::parse(&Query::parse(Some(text)), "");
            assert_eq!(got.map(|o| o.at).map_err(|s| s.code), want, "{text}");
        }
    }

    #[test]
    fn tokens_go_on_where_they_say_and_nowhere_else() {
        let text = format!("limit=2&continue={}", token(7, "a/b\0"));
        let options = ListOptions::parse(&Query::parse(Some(&text)), "a/").expect("a good token");
        assert_eq!(options, ListOptions { at: At::Exact(7), limit: 2, start: Some("a/b\0".into()) });
        assert_eq!(ListOptions::parse(&Query::parse(Some(&text)), "b/").expect_err("another prefix").code, 400);
        let both = format!("{text}&resourceVersion=3");
        assert_eq!(ListOptions::parse(&Query::parse(Some(&both)), "a/").expect_err("both").code, 400);
        let newest = format!("continue={}", token(-1, "a/b\0"));
        assert_eq!(ListOptions::parse(&Query::parse(Some(&newest)), "a/").map(|o| o.at), Ok(At::Latest));
    }
}
