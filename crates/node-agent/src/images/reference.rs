//! Image references as people write them, and the full form the runtime stores.

/// The full form: registry, repository and a tag or digest. `busybox` is
/// `docker.io/library/busybox:latest`. None when it is no reference.
pub fn normalise(text: &str) -> Option<String> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let slash = rest.rfind('/').map_or(0, |i| i + 1);
    let (path, tag) = match rest[slash..].rfind(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    let (registry, repository) = split_registry(path);
    let valid = valid_repository(&repository)
        && tag.is_none_or(valid_tag)
        && digest.is_none_or(|d| d.strip_prefix("sha256:").is_some_and(|h| h.len() == 64 && h.bytes().all(lower_hex)));
    if !valid {
        return None;
    }
    let name = format!("{registry}/{repository}");
    Some(match (tag, digest) {
        (tag, Some(digest)) => format!("{name}{}@{digest}", tag.map(|t| format!(":{t}")).unwrap_or_default()),
        (tag, None) => format!("{name}:{}", tag.unwrap_or("latest")),
    })
}

/// Is it pulled anew by default: the tag `latest`, written or implied, without a digest?
pub fn is_latest(text: &str) -> bool {
    !text.contains('@') && normalise(text).is_some_and(|n| n.ends_with(":latest"))
}

/// The first part is a registry when it looks like a host; else it is Docker's.
fn split_registry(path: &str) -> (String, String) {
    match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            let host = if host == "index.docker.io" { "docker.io" } else { host };
            let rest = if host == "docker.io" && !rest.contains('/') { format!("library/{rest}") } else { rest.into() };
            (host.into(), rest)
        }
        Some(_) => ("docker.io".into(), path.into()),
        None => ("docker.io".into(), format!("library/{path}")),
    }
}

fn lower_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

fn valid_repository(repository: &str) -> bool {
    let part = |p: &str| {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        p.bytes().next().is_some_and(alphanumeric)
            && p.bytes().last().is_some_and(alphanumeric)
            && p.bytes().all(|b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'))
    };
    !repository.is_empty() && repository.len() <= 255 && repository.split('/').all(part)
}

fn valid_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_forms() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("me/app:v1", "docker.io/me/app:v1"),
            ("localhost/app", "localhost/app:latest"),
            ("reg.example:5000/a/b", "reg.example:5000/a/b:latest"),
            ("kybern.local/pause:1", "kybern.local/pause:1"),
            (&format!("a.b/c@{digest}"), &format!("a.b/c@{digest}")),
        ] {
            assert_eq!(normalise(text).as_deref(), Some(full), "{text}");
        }
        for bad in ["", "UPPER", "a//b", "a:", "a:b c", "a@sha256:12", "/a", "a/", "http://x/y"] {
            assert_eq!(normalise(bad), None, "{bad}");
        }
    }

    #[test]
    fn latest_is_pulled_by_default() {
        assert!(is_latest("busybox") && is_latest("x.y/z:latest"));
        assert!(!is_latest("busybox:1") && !is_latest(&format!("busybox@sha256:{}", "0".repeat(64))));
    }
}
