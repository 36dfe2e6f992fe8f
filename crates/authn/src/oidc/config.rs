//! The part of an `AuthenticationConfiguration` that speaks of other issuers' tokens, and what is wrong with it.

use serde::Deserialize;
use std::collections::BTreeSet;

/// More issuers are refused.
const MAX_ISSUERS: usize = 64;
const VERSIONS: [&str; 2] = ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1"];

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationConfiguration {
    api_version: String,
    kind: String,
    /// Issuers of JSON web tokens, and how their users are named here.
    #[serde(default)]
    pub jwt: Vec<Jwt>,
    #[serde(default)]
    anonymous: Option<serde_json::Value>,
}

/// One issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    /// Who issues.
    pub issuer: Issuer,
    /// What must hold of a token's claims.
    #[serde(default)]
    pub claim_validation_rules: Vec<ClaimRule>,
    /// Who its bearer is.
    pub claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<serde_json::Value>,
}

/// Who issues tokens, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    /// `iss` of its tokens, exactly.
    pub url: String,
    /// Where its discovery document is, if not below `url`.
    #[serde(rename = "discoveryURL", default)]
    pub discovery_url: String,
    /// CAs of its certificate, PEM; empty: those of the machine.
    #[serde(default)]
    pub certificate_authority: String,
    /// A token must be for one of these.
    #[serde(default)]
    pub audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
}

/// A claim that must be there with a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimRule {
    /// The claim.
    #[serde(default)]
    pub claim: String,
    /// Its value, a string.
    #[serde(default)]
    pub required_value: String,
    #[serde(default)]
    expression: String,
    #[serde(default)]
    message: String,
}

/// How claims become a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mappings {
    /// The user's name.
    pub username: Source,
    /// Its groups.
    #[serde(default)]
    pub groups: Source,
    /// Its uid.
    #[serde(default)]
    pub uid: Source,
    /// What else is known of it.
    #[serde(default)]
    pub extra: Vec<Extra>,
}

/// A claim, or an expression that names one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    #[serde(default)]
    claim: String,
    /// Stands before the claim's value.
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    expression: String,
}

/// One entry of a user's extra.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Extra {
    /// Its key.
    pub key: String,
    value_expression: String,
}

impl Source {
    /// The claim's path; None: the source is not given.
    pub(super) fn path(&self) -> Option<Vec<&str>> {
        match (self.claim.as_str(), self.expression.as_str()) {
            ("", "") => None,
            ("", expression) => path(expression),
            (claim, _) => Some(vec![claim]),
        }
    }
    pub(super) fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or_default()
    }
    pub(super) fn is_claim(&self, name: &str) -> bool {
        self.claim == name
    }

    fn check(&self, what: &str, takes_prefix: bool) -> Result<(), String> {
        let both = !self.claim.is_empty() && !self.expression.is_empty();
        match (both, &self.prefix) {
            (true, _) => Err(format!("{what}: claim and expression can't both be set")),
            (_, Some(_)) if self.claim.is_empty() => Err(format!("{what}.prefix: only stands with a claim")),
            (_, None) if takes_prefix && !self.claim.is_empty() => {
                Err(format!("{what}.prefix: is required with a claim; \"\" means none"))
            }
            _ => simple(&self.expression, what),
        }
    }
}

impl Extra {
    pub(super) fn path(&self) -> Option<Vec<&str>> {
        path(&self.value_expression)
    }
}

/// `claims.a.b`: the one form of expression that is understood.
fn path(expression: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = expression.strip_prefix("claims.")?.split('.').collect();
    let word = |p: &&str| !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    parts.iter().all(word).then_some(parts)
}

fn simple(expression: &str, what: &str) -> Result<(), String> {
    if expression.is_empty() || path(expression).is_some() {
        return Ok(());
    }
    Err(format!("{what}: of expressions, only a claim's path such as claims.sub is understood yet"))
}

impl AuthenticationConfiguration {
    /// Finds the first mistake. `own` is the issuer of the cluster's own tokens.
    ///
    /// # Errors
    /// Where and what it is.
    pub fn check(&self, own: &str) -> Result<(), String> {
        if !VERSIONS.contains(&self.api_version.as_str()) || self.kind != "AuthenticationConfiguration" {
            return Err(format!("must be AuthenticationConfiguration of {}", VERSIONS[0]));
        }
        if self.anonymous.is_some() {
            return Err("anonymous: can't be set; requests without credentials pass on health paths alone".into());
        }
        if self.jwt.len() > MAX_ISSUERS {
            return Err(format!("jwt: must have at most {MAX_ISSUERS} issuers"));
        }
        let (mut urls, mut discovery) = (BTreeSet::from([own]), BTreeSet::new());
        for (i, jwt) in self.jwt.iter().enumerate() {
            let at = format!("jwt[{i}]");
            jwt.check(&at)?;
            if !urls.insert(jwt.issuer.url.as_str()) {
                return Err(format!("{at}.issuer.url: another issuer has it (or this cluster)"));
            }
            let document = jwt.issuer.discovery_url.as_str();
            if !document.is_empty() && !discovery.insert(document) {
                return Err(format!("{at}.issuer.discoveryURL: another issuer has it"));
            }
        }
        Ok(())
    }
}

impl Jwt {
    fn check(&self, at: &str) -> Result<(), String> {
        self.issuer.check(&format!("{at}.issuer"))?;
        if !self.user_validation_rules.is_empty() {
            return Err(format!("{at}.userValidationRules: expressions are not understood yet"));
        }
        let mut ruled = BTreeSet::new();
        for (i, rule) in self.claim_validation_rules.iter().enumerate() {
            let at = format!("{at}.claimValidationRules[{i}]");
            if !rule.expression.is_empty() || !rule.message.is_empty() {
                return Err(format!("{at}: expressions are not understood yet; use claim and requiredValue"));
            }
            if rule.claim.is_empty() || !ruled.insert(rule.claim.as_str()) {
                return Err(format!("{at}.claim: is required, and each claim once"));
            }
        }
        let mappings = &self.claim_mappings;
        if mappings.username.path().is_none() && mappings.username.expression.is_empty() {
            return Err(format!("{at}.claimMappings.username: claim or expression is required"));
        }
        mappings.username.check(&format!("{at}.claimMappings.username"), true)?;
        mappings.groups.check(&format!("{at}.claimMappings.groups"), true)?;
        mappings.uid.check(&format!("{at}.claimMappings.uid"), false)?;
        if mappings.uid.prefix.is_some() {
            return Err(format!("{at}.claimMappings.uid.prefix: a uid has none"));
        }
        let mut keys = BTreeSet::new();
        for (i, extra) in mappings.extra.iter().enumerate() {
            let at = format!("{at}.claimMappings.extra[{i}]");
            check_key(&extra.key).map_err(|why| format!("{at}.key: {why}"))?;
            if !keys.insert(extra.key.as_str()) {
                return Err(format!("{at}.key: another entry has it"));
            }
            if extra.value_expression.is_empty() {
                return Err(format!("{at}.valueExpression: is required"));
            }
            simple(&extra.value_expression, &format!("{at}.valueExpression"))?;
        }
        Ok(())
    }
}

impl Issuer {
    fn check(&self, at: &str) -> Result<(), String> {
        check_url(&self.url).map_err(|why| format!("{at}.url: {why}"))?;
        if !self.discovery_url.is_empty() {
            check_url(&self.discovery_url).map_err(|why| format!("{at}.discoveryURL: {why}"))?;
            if self.discovery_url.trim_end_matches('/') == self.url.trim_end_matches('/') {
                return Err(format!("{at}.discoveryURL: must differ from url"));
            }
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Err(format!("{at}.audiences: at least one is required, and none empty"));
        }
        match (self.audiences.len(), self.audience_match_policy.as_str()) {
            (_, "MatchAny") | (1, "") => Ok(()),
            (_, "") => Err(format!("{at}.audienceMatchPolicy: must be MatchAny with several audiences")),
            _ => Err(format!("{at}.audienceMatchPolicy: must be MatchAny")),
        }
    }
}

fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("https://").ok_or("must begin with https://")?;
    if rest.is_empty() || rest.starts_with('/') {
        return Err("has no host");
    }
    if rest.split('/').next().is_some_and(|host| host.contains('@')) {
        return Err("must not have a user");
    }
    if rest.contains(['?', '#']) || rest.contains(char::is_whitespace) {
        return Err("must not have a query or fragment");
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), &'static str> {
    let (domain, path) = key.split_once('/').ok_or("must be a path below a domain, as example.com/key")?;
    let of = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c))
    };
    if !of(domain, "-.") || !of(path, "-._/") || !domain.contains('.') {
        return Err("must be lower case, as example.com/key");
    }
    let reserved = ["k8s.io", "kubernetes.io"];
    if reserved.iter().any(|r| domain == *r || domain.strip_suffix(r).is_some_and(|rest| rest.ends_with('.'))) {
        return Err("k8s.io and kubernetes.io are reserved");
    }
    Ok(())
}
