//! What a path is rewritten to.

use regex::Regex;

/// The path that a target makes of a request's path. `$1` to `$9` are what the expression captured.
pub(crate) fn rewritten(target: &str, expression: Option<&Regex>, path: &str) -> String {
    let captures = expression.and_then(|e| e.captures(path));
    let mut out = String::with_capacity(target.len() + path.len());
    let mut rest = target;
    while let Some((text, after)) = rest.split_once('$') {
        out.push_str(text);
        match after.as_bytes().first() {
            Some(digit @ b'1'..=b'9') => {
                let captured = captures.as_ref().and_then(|c| c.get(usize::from(digit - b'0')));
                out.push_str(captured.map_or("", |m| m.as_str()));
                rest = &after[1..];
            }
            _ => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    if !out.starts_with('/') {
        out.insert(0, '/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_api::ingress::{Path, PathType};

    fn path(text: &str) -> Path {
        Path { kind: PathType::ImplementationSpecific, path: text.into(), backend: None }
    }

    #[test]
    fn captures_go_where_the_target_says() {
        let e = path("/app(/|$)(.*)").expression(true).expect("expression");
        let make = |target: &str, path: &str| rewritten(target, e.as_ref(), path);
        assert_eq!(make("/$2", "/app/a/b"), "/a/b");
        assert_eq!(make("/$2", "/app"), "/");
        assert_eq!(make("/x/$2/$1$$", "/app/a"), "/x/a//$$");
        assert_eq!(make("$2", "/app/a"), "/a");
        assert_eq!(make("/$9", "/app/a"), "/");
        assert_eq!(rewritten("/", None, "/anything"), "/");
    }

    #[test]
    fn only_with_a_target_and_special_characters_a_path_is_an_expression() {
        assert!(path("/a(.*)").expression(false).expect("none").is_none());
        assert!(path("/a.b").expression(true).expect("none").is_none());
        assert!(path("/a(.*").expression(true).is_err());
        assert!(path("/(a{1000}){1000}").expression(true).is_err(), "too large");
    }
}
