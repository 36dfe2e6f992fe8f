//! Which requests are written down, and how much of them: `audit.k8s.io/v1` Policy. Pure.

use kybern_api::attributes::Attributes;
use serde::Deserialize;
use serde_json::Value;

/// How much of a request is written down. Each level holds what the one before does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when, and how it ended.
    Metadata,
    /// The request's object as well.
    Request,
    /// The answer's object as well.
    RequestResponse,
}

impl Level {
    const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Request, Self::RequestResponse];

    /// Its word in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// A moment of a request at which an event is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// Its sender is known, nothing has been done yet.
    #[default]
    RequestReceived,
    /// Of a long-running request: its answer has begun.
    ResponseStarted,
    /// Its answer is complete.
    ResponseComplete,
    /// It broke its handler.
    Panic,
}

impl Stage {
    const ALL: [Self; 4] = [Self::RequestReceived, Self::ResponseStarted, Self::ResponseComplete, Self::Panic];

    /// Its word in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// A set of stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages(u8);

impl Stages {
    /// Is it one of them?
    pub fn has(self, stage: Stage) -> bool {
        self.0 & (1 << stage as u8) != 0
    }
}

/// What a policy says of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How much is written down.
    pub level: Level,
    /// Stages that are not.
    pub omit: Stages,
    /// Leave `metadata.managedFields` out of objects.
    pub omit_managed_fields: bool,
}

/// A checked policy.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Vec<Rule>,
    omit: Stages,
}

#[derive(Debug, Clone)]
struct Rule {
    verdict: Verdict,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    namespaces: Vec<String>,
    resources: Vec<GroupResources>,
    paths: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct PolicyFile {
    api_version: String,
    kind: String,
    #[serde(rename = "metadata")]
    _metadata: Value,
    rules: Vec<RuleFile>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RuleFile {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

/// A policy file that cannot be used, with the field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

const API_VERSION: &str = "audit.k8s.io/v1";

impl Policy {
    /// Reads and checks a policy file.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let file: PolicyFile = serde_saphyr::from_str(text).map_err(|e| PolicyError(e.to_string()))?;
        if file.api_version != API_VERSION || file.kind != "Policy" {
            let found = format!("{}, {}", file.api_version, file.kind);
            return Err(PolicyError(format!("must be apiVersion {API_VERSION}, kind Policy, not {found}")));
        }
        if file.rules.is_empty() {
            return Err(PolicyError("rules: Required value: a policy without rules writes nothing down".into()));
        }
        let omit = stages(&file.omit_stages, "omitStages")?;
        let rules = file.rules.into_iter().enumerate();
        let rules = rules.map(|(i, rule)| check(rule, &format!("rules[{i}]"), omit, file.omit_managed_fields));
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, omit })
    }

    /// What servers do unless they are told otherwise.
    ///
    /// # Errors
    /// Never: the text is the program's own, and a test reads it.
    pub fn standard() -> Result<Self, PolicyError> {
        Self::parse(include_str!("default-policy.yaml"))
    }

    /// The first rule that fits decides; without one nothing is written down.
    pub fn judge(&self, a: &Attributes) -> Verdict {
        let none = Verdict { level: Level::None, omit: self.omit, omit_managed_fields: false };
        self.rules.iter().find(|rule| rule.fits(a)).map_or(none, |rule| rule.verdict)
    }
}

fn check(rule: RuleFile, at: &str, omit: Stages, omit_managed_fields: bool) -> Result<Rule, PolicyError> {
    let level = Level::ALL.into_iter().find(|l| l.as_str() == rule.level);
    let level =
        level.ok_or_else(|| unsupported(&format!("{at}.level"), &rule.level, &Level::ALL.map(Level::as_str)))?;
    let of_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
    if of_resources && !rule.paths.is_empty() {
        let why = "rules cannot apply to both regular resources and non-resource URLs";
        return Err(invalid(&format!("{at}.nonResourceURLs"), &rule.paths.join(","), why));
    }
    for (i, path) in rule.paths.iter().enumerate() {
        let at = format!("{at}.nonResourceURLs[{i}]");
        if path != "*" && !path.starts_with('/') {
            return Err(invalid(&at, path, "non-resource URL rules must begin with a '/' character"));
        }
        if path.find('*').is_some_and(|star| star + 1 != path.len()) {
            return Err(invalid(&at, path, "non-resource URL wildcards '*' must be the final character of the rule"));
        }
    }
    for (i, of) in rule.resources.iter().enumerate() {
        if of.group.contains('/') {
            let why = "must be a group's name, without a version";
            return Err(invalid(&format!("{at}.resources[{i}].group"), &of.group, why));
        }
        if !of.resource_names.is_empty() && of.resources.is_empty() {
            let why = "using resourceNames requires at least one resource";
            return Err(invalid(&format!("{at}.resources[{i}].resourceNames"), &of.resource_names.join(","), why));
        }
    }
    let own = stages(&rule.omit_stages, &format!("{at}.omitStages"))?;
    Ok(Rule {
        verdict: Verdict {
            level,
            omit: Stages(own.0 | omit.0),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(omit_managed_fields),
        },
        users: rule.users,
        groups: rule.user_groups,
        verbs: rule.verbs,
        namespaces: rule.namespaces,
        resources: rule.resources,
        paths: rule.paths,
    })
}

fn stages(words: &[String], at: &str) -> Result<Stages, PolicyError> {
    words.iter().enumerate().try_fold(Stages::default(), |set, (i, word)| {
        let found = Stage::ALL.into_iter().find(|s| s.as_str() == word);
        let found = found.ok_or_else(|| unsupported(&format!("{at}[{i}]"), word, &Stage::ALL.map(Stage::as_str)))?;
        Ok(Stages(set.0 | 1 << found as u8))
    })
}

fn unsupported(at: &str, value: &str, known: &[&str]) -> PolicyError {
    if value.is_empty() {
        return PolicyError(format!("{at}: Required value"));
    }
    let known: Vec<String> = known.iter().map(|k| format!("\"{k}\"")).collect();
    PolicyError(format!("{at}: Unsupported value: \"{value}\": supported values: {}", known.join(", ")))
}

fn invalid(at: &str, value: &str, why: &str) -> PolicyError {
    PolicyError(format!("{at}: Invalid value: \"{value}\": {why}"))
}

fn any_or_has(list: &[String], word: &str) -> bool {
    list.is_empty() || list.iter().any(|l| l == word)
}

impl Rule {
    fn fits(&self, a: &Attributes) -> bool {
        if !any_or_has(&self.users, &a.user.name) || !any_or_has(&self.verbs, &a.verb) {
            return false;
        }
        if !self.groups.is_empty() && !self.groups.iter().any(|g| a.user.is_in(g)) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return a.is_resource() && any_or_has(&self.namespaces, &a.namespace) && self.fits_resource(a);
        }
        self.paths.is_empty() || (!a.is_resource() && self.paths.iter().any(|spec| path_fits(spec, &a.path)))
    }

    fn fits_resource(&self, a: &Attributes) -> bool {
        self.resources.is_empty() || self.resources.iter().any(|of| of.group == a.group && of.fits(a))
    }
}

impl GroupResources {
    fn fits(&self, a: &Attributes) -> bool {
        if self.resources.is_empty() {
            return true;
        }
        any_or_has(&self.resource_names, &a.name)
            && self.resources.iter().any(|word| match word.split_once('/') {
                None => word == "*" || (a.subresource.is_empty() && *word == a.resource),
                Some(("*", sub)) => !a.subresource.is_empty() && sub == a.subresource,
                Some((resource, "*")) => resource == a.resource,
                Some((resource, sub)) => resource == a.resource && sub == a.subresource,
            })
    }
}

fn path_fits(spec: &str, path: &str) -> bool {
    spec == path || spec.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_api::attributes::UserInfo;

    /// A policy and requests as `user[,group]* verb path-or-group/resource[/sub] [namespace] [name]`.
    #[derive(Deserialize)]
    struct Case {
        name: String,
        policy: Value,
        #[serde(default)]
        requests: Vec<(String, String)>,
        #[serde(default)]
        refused: String,
    }

    fn attributes(line: &str) -> Attributes {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut who = words[0].split(',').map(str::to_owned);
        let user = UserInfo { name: who.next().expect("a user"), groups: who.collect(), ..UserInfo::default() };
        let mut a = Attributes { user, verb: words[1].into(), ..Attributes::default() };
        if words[2].starts_with('/') {
            a.path = words[2].into();
            return a;
        }
        let mut what = words[2].split('/').map(str::to_owned);
        a.group = what.next().filter(|g| g != "core").unwrap_or_default();
        a.resource = what.next().expect("a resource");
        a.subresource = what.next().unwrap_or_default();
        a.namespace = words.get(3).copied().filter(|n| *n != "-").unwrap_or_default().into();
        a.name = words.get(4).copied().unwrap_or_default().into();
        a
    }

    #[test]
    fn cases() {
        let cases: Vec<Case> = serde_saphyr::from_str(include_str!("../../cases/audit-policy.yaml")).expect("cases");
        for case in cases {
            let text = match case.policy.as_str() {
                Some("standard") => include_str!("default-policy.yaml").to_owned(),
                _ => case.policy.to_string(),
            };
            let policy = match Policy::parse(&text) {
                Ok(policy) => policy,
                Err(e) => {
                    assert!(!case.refused.is_empty() && e.0.contains(&case.refused), "{}: {e}", case.name);
                    continue;
                }
            };
            assert!(case.refused.is_empty(), "{}: taken", case.name);
            for (line, wanted) in case.requests {
                let v = policy.judge(&attributes(&line));
                let mut said = v.level.as_str().to_owned();
                for stage in Stage::ALL.into_iter().filter(|s| v.omit.has(*s)) {
                    said += &format!(" -{}", stage.as_str());
                }
                if v.omit_managed_fields {
                    said += " -managedFields";
                }
                assert_eq!(said, wanted, "{}: {line}", case.name);
            }
        }
    }
}
