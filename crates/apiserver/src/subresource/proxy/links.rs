//! Links of pages that were fetched through the proxy: those to the same place get the proxy's path.

/// Longest page whose links are turned.
pub(super) const MAX_PAGE: usize = 4 << 20;

/// Attributes that hold a URL (HTML, index of attributes).
const URLS: [&[u8]; 15] = [
    b"href",
    b"src",
    b"action",
    b"formaction",
    b"cite",
    b"background",
    b"poster",
    b"longdesc",
    b"icon",
    b"codebase",
    b"manifest",
    b"profile",
    b"usemap",
    b"data",
    b"classid",
];
/// What is inside of these is no markup.
const RAW: [&[u8]; 2] = [b"script", b"style"];

/// Where a link leads through the proxy; None: elsewhere, it stays as it is.
pub(super) fn back(link: &str, base: &str, authority: &str) -> Option<String> {
    let path = ["http://", "https://"]
        .iter()
        .find_map(|scheme| link.strip_prefix(scheme)?.strip_prefix(authority))
        .or_else(|| Some(link).filter(|l| l.starts_with('/') && !l.starts_with("//")))?;
    let below = path.is_empty() || path.starts_with(['/', '?', '#']);
    (below && !path.starts_with(base)).then(|| format!("{base}{path}"))
}

/// The page with its links turned. Everything else is left byte for byte.
pub(super) fn rewrite(page: &[u8], base: &str, authority: &str) -> Vec<u8> {
    let mut scan = Scan { page, at: 0, copied: 0, out: Vec::with_capacity(page.len() + page.len() / 8) };
    while let Some(name) = scan.tag() {
        while let Some((attribute, from, to)) = scan.attribute() {
            let is_link = URLS.iter().any(|u| attribute.eq_ignore_ascii_case(u));
            let text = std::str::from_utf8(&page[from..to]).ok().filter(|_| is_link);
            if let Some(link) = text.and_then(|t| back(t, base, authority)) {
                scan.replace(from, to, link.as_bytes());
            }
        }
        if let Some(raw) = RAW.iter().find(|r| name.eq_ignore_ascii_case(r)) {
            scan.skip_raw(raw);
        }
    }
    scan.out.extend_from_slice(&page[scan.copied..]);
    scan.out
}

struct Scan<'a> {
    page: &'a [u8],
    at: usize,
    /// So much of the page is in `out`.
    copied: usize,
    out: Vec<u8>,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.page.get(self.at).copied()
    }
    fn run(&mut self, take: impl Fn(u8) -> bool) -> &'a [u8] {
        let from = self.at;
        while self.peek().is_some_and(&take) {
            self.at += 1;
        }
        &self.page[from..self.at]
    }
    /// Goes to the next opening tag; its name.
    fn tag(&mut self) -> Option<&'a [u8]> {
        loop {
            self.run(|b| b != b'<');
            self.peek()?;
            self.at += 1;
            if self.page[self.at..].starts_with(b"!--") {
                self.skip_to(b"-->");
            } else if self.peek()?.is_ascii_alphabetic() {
                return Some(self.run(|b| b.is_ascii_alphanumeric() || b == b'-'));
            }
        }
    }
    /// The tag's next attribute that has a value: its name, and where the value is. None: the tag is over.
    fn attribute(&mut self) -> Option<(&'a [u8], usize, usize)> {
        loop {
            self.run(|b| b.is_ascii_whitespace() || b == b'/');
            if self.peek()? == b'>' {
                return None;
            }
            let name = self.run(|b| !b.is_ascii_whitespace() && !matches!(b, b'=' | b'>' | b'/'));
            self.run(|b| b.is_ascii_whitespace());
            if self.peek()? != b'=' {
                // A value must follow, or this was no attribute at all: go on either way.
                if name.is_empty() {
                    self.at += 1;
                }
                continue;
            }
            self.at += 1;
            self.run(|b| b.is_ascii_whitespace());
            let quote = self.peek().filter(|q| matches!(q, b'"' | b'\''));
            self.at += usize::from(quote.is_some());
            let from = self.at;
            self.run(|b| quote.map_or(!b.is_ascii_whitespace() && b != b'>', |q| b != q));
            let to = self.at;
            self.at = (self.at + usize::from(quote.is_some())).min(self.page.len());
            return Some((name, from, to));
        }
    }
    fn replace(&mut self, from: usize, to: usize, by: &[u8]) {
        self.out.extend_from_slice(&self.page[self.copied..from]);
        self.out.extend_from_slice(by);
        self.copied = to;
    }
    fn skip_to(&mut self, end: &[u8]) {
        let rest = &self.page[self.at..];
        let found = rest.windows(end.len()).position(|w| w.eq_ignore_ascii_case(end));
        self.at += found.map_or(rest.len(), |p| p + end.len());
    }
    fn skip_raw(&mut self, name: &[u8]) {
        self.skip_to(&[b"</", name].concat());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/api/v1/namespaces/a/pods/b:80/proxy";

    fn rewritten(page: &str) -> String {
        String::from_utf8(rewrite(page.as_bytes(), BASE, "10.0.0.1:80")).expect("text")
    }

    #[test]
    fn links_to_the_same_place_go_through_the_proxy() {
        let cases = [
            ("/x", Some("/x")),
            ("/", Some("/")),
            ("http://10.0.0.1:80/y?z", Some("/y?z")),
            ("https://10.0.0.1:80", Some("")),
            ("http://10.0.0.1:8080/y", None),
            ("http://example.com/", None),
            ("//example.com/x", None),
            ("x/y", None),
            ("#here", None),
            ("/api/v1/namespaces/a/pods/b:80/proxy/x", None),
        ];
        for (link, want) in cases {
            assert_eq!(back(link, BASE, "10.0.0.1:80"), want.map(|w| format!("{BASE}{w}")), "{link}");
        }
    }

    #[test]
    fn pages_keep_everything_but_their_links() {
        let page = "<!doctype html><!-- <a href=\"/no\"> --><A class=x HREF='/a'>/b</A><img src=/c><script>\
                    if (a < b) '<a href=\"/no\">'</script><form action = \"/d\" disabled><a href=e>";
        let want = page
            .replace("'/a'", &format!("'{BASE}/a'"))
            .replace("=/c", &format!("={BASE}/c"))
            .replace("\"/d\"", &format!("\"{BASE}/d\""));
        assert_eq!(rewritten(page), want);
    }

    #[test]
    fn broken_pages_pass() {
        for page in [
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href='/x",
            "<a =",
            "<a = '>",
            "< a href='/x'>",
            "<!--",
            "\u{0}<a\u{0}",
        ] {
            let _ = rewritten(page);
        }
        assert_eq!(rewritten("<a href='/x"), format!("<a href='{BASE}/x"));
        assert_eq!(rewrite(b"\xff<a href='\xff/'>\xff", BASE, ""), b"\xff<a href='\xff/'>\xff");
    }
}
