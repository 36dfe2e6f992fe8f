//! One rule of a role, and what it covers. Pure.

use kybern_api::attributes::Attributes;
use serde::{Deserialize, Serialize};

/// The word that stands for everything.
const ALL: &str = "*";

/// A PolicyRule.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs.
    pub verbs: Vec<String>,
    /// API groups; the core group is the empty string.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources: `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Object names; empty: every name, and requests without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// URL paths; a final `*` stands for any rest.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// Does it allow the request?
    pub fn covers(&self, request: &Attributes) -> bool {
        if !has(&self.verbs, &request.verb) {
            return false;
        }
        if !request.is_resource() {
            return self.non_resource_urls.iter().any(|rule| covers_path(rule, &request.path));
        }
        has(&self.api_groups, &request.group)
            && self.resources.iter().any(|rule| covers_resource(rule, &request.resource, &request.subresource))
            && (self.resource_names.is_empty() || self.resource_names.contains(&request.name))
    }
}

/// The rules of a Role or ClusterRole tree; what is malformed grants nothing.
pub fn rules_of(role: &serde_json::Value) -> Vec<Rule> {
    role.get("rules").and_then(|rules| Vec::<Rule>::deserialize(rules).ok()).unwrap_or_default()
}

pub(crate) fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == ALL || item == wanted)
}

pub(crate) fn covers_path(rule: &str, path: &str) -> bool {
    match rule.strip_suffix(ALL) {
        Some(prefix) => path.starts_with(prefix),
        None => rule == path,
    }
}

pub(crate) fn covers_resource(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == ALL || of == resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        // verbs | groups | resources | names | urls
        let parts: Vec<Vec<String>> =
            text.split('|').map(|p| p.split_whitespace().map(|w| w.replace("core", "")).collect()).collect();
        let part = |i: usize| parts.get(i).cloned().unwrap_or_default();
        Rule {
            verbs: part(0),
            api_groups: part(1),
            resources: part(2),
            resource_names: part(3),
            non_resource_urls: part(4),
        }
    }

    fn request(text: &str) -> Attributes {
        // verb group resource subresource name, or verb path
        let words: Vec<&str> = text.split_whitespace().collect();
        let word = |i: usize| words.get(i).map_or(String::new(), |w| w.replace('-', "").replace("core", ""));
        if words[1].starts_with('/') {
            return Attributes { verb: word(0), path: words[1].into(), ..Attributes::default() };
        }
        Attributes {
            verb: word(0),
            group: word(1),
            resource: word(2),
            subresource: word(3),
            name: word(4),
            ..Attributes::default()
        }
    }

    #[test]
    fn rules_cover_exactly_what_they_say() {
        let cases = [
            ("get list|core|pods", "get core pods", true),
            ("get list|core|pods", "get core pods - web", true),
            ("get list|core|pods", "watch core pods", false),
            ("get list|core|pods", "get apps pods", false),
            ("get|core|pods", "get core pods log", false),
            ("get|core|pods/log", "get core pods log", true),
            ("get|core|pods/log", "get core pods", false),
            ("get|core|*/scale", "get core pods scale", true),
            ("get|core|*/scale", "get core pods log", false),
            ("get|core|*/scale", "get core pods", false),
            ("get|core|*", "get core pods log", true),
            ("*|*|*", "frobnicate x.io things sub name", true),
            ("*|*|*", "get /metrics", false),
            ("get|core|secrets|a b", "get core secrets - b", true),
            ("get|core|secrets|a b", "get core secrets - c", false),
            // a list names no object: names do not open it
            ("list|core|secrets|a", "list core secrets", false),
            ("get||||/metrics", "get /metrics", true),
            ("get||||/metrics", "get /metrics/x", false),
            ("get||||/healthz/*", "get /healthz/ping", true),
            ("get||||/healthz/*", "get /healthz", false),
            ("get||||*", "get /anything", true),
            ("post||||/metrics", "get /metrics", false),
            ("|core|pods", "get core pods", false),
            ("get||pods", "get core pods", false),
        ];
        for (held, asked, covered) in cases {
            assert_eq!(rule(held).covers(&request(asked)), covered, "{held} covers {asked}");
        }
    }

    #[test]
    fn malformed_roles_grant_nothing() {
        for role in [r#"{}"#, r#"{"rules":null}"#, r#"{"rules":[{"verbs":"*"}]}"#, r#"{"rules":{}}"#] {
            assert!(rules_of(&serde_json::from_str(role).expect("JSON")).is_empty(), "{role}");
        }
    }
}
