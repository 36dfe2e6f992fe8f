//! What a proxy changes in the heads of requests and answers.

use http::header::{
    CONNECTION, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{Version, request};
use std::net::IpAddr;

/// Headers that speak of one connection and not of the message.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// How a request came in.
#[derive(Debug, Clone, Copy)]
pub struct Incomer {
    /// The client's address.
    pub client: IpAddr,
    /// The port it came to.
    pub port: u16,
    /// Over TLS?
    pub tls: bool,
}

/// The protocol a request wants to change to, if it may.
pub(crate) fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = tokens(headers, &CONNECTION).any(|t| t.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| asks && version == Version::HTTP_11).cloned()
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim)
}

/// Takes out what concerns the connection it came over.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION).filter_map(|t| t.parse().ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Makes the head of a client's request that of the request to a backend. What the client itself says about
/// where it comes from is not believed.
pub(crate) fn forward(head: &mut request::Parts, host: &str, from: &Incomer, upgrade: Option<&HeaderValue>) {
    let trailers = tokens(&head.headers, &TE).any(|t| t.eq_ignore_ascii_case("trailers"));
    let headers = &mut head.headers;
    strip(headers);
    headers.remove(EXPECT);
    headers.remove(FORWARDED);
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    join_cookies(headers);
    let mut put = |name: HeaderName, text: &str| {
        // Digits, dots and what was parsed as an authority are always legal.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    let client = from.client.to_canonical().to_string();
    put(FORWARDED_FOR, &client);
    put(REAL_IP, &client);
    put(FORWARDED_PORT, &from.port.to_string());
    put(FORWARDED_PROTO, if from.tls { "https" } else { "http" });
    if !host.is_empty() {
        put(FORWARDED_HOST, host);
        put(HOST, host);
    }
}

/// HTTP/2 may send cookies one by one, HTTP/1.1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    let all: Vec<&[u8]> = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    if all.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    cookies.filter_map(|c| c.trim().split_once('=')).find_map(|(k, v)| (k == name).then_some(v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri("/");
        for (k, v) in headers {
            request = request.header(*k, *v);
        }
        request.body(()).expect("request").into_parts().0
    }

    #[test]
    fn what_concerns_the_connection_stays_behind_and_the_clients_word_counts_nothing() {
        let mut head = head(&[
            ("host", "evil.example.com"),
            ("connection", "close, x-secret"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("te", "trailers, deflate"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=10.0.0.1"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("accept", "*/*"),
        ]);
        let from = Incomer { client: "::ffff:192.0.2.7".parse().expect("ip"), port: 80, tls: false };
        forward(&mut head, "a.example.com:8080", &from, None);
        let mut have: Vec<String> =
            head.headers.iter().map(|(k, v)| format!("{k}: {}", v.to_str().expect("text"))).collect();
        have.sort();
        assert_eq!(
            have,
            [
                "accept: */*",
                "cookie: a=1; b=2",
                "host: a.example.com:8080",
                "te: trailers",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: a.example.com:8080",
                "x-forwarded-port: 80",
                "x-forwarded-proto: http",
                "x-real-ip: 192.0.2.7",
            ]
        );
    }

    #[test]
    fn an_upgrade_has_to_be_asked_for_in_both_headers() {
        let with = |c: &str| head(&[("upgrade", "websocket"), ("connection", c)]);
        assert!(upgrade(Version::HTTP_11, &with("keep-alive, Upgrade").headers).is_some());
        assert!(upgrade(Version::HTTP_11, &with("keep-alive").headers).is_none());
        assert!(upgrade(Version::HTTP_10, &with("upgrade").headers).is_none());
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let head = head(&[("cookie", "a=1; kybern=x"), ("cookie", "b=2")]);
        assert_eq!(cookie(&head.headers, "kybern"), Some("x"));
        assert_eq!(cookie(&head.headers, "b"), Some("2"));
        assert_eq!(cookie(&head.headers, "c"), None);
    }
}
