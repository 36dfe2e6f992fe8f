//! Nobody grants what he does not hold: the check before a role or binding is written.

use crate::authorizer::{Authorizer, Decision, Standard};
use crate::index::GROUP;
use crate::rules::{Rule, covers_path, covers_resource, has, rules_of};
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::seam::Lister;
use serde_json::Value;

/// A create or update of an object of the RBAC group.
#[derive(Debug, Clone, Copy)]
pub struct RoleWrite<'a> {
    /// Who writes.
    pub user: &'a UserInfo,
    /// API group of the object.
    pub group: &'a str,
    /// Plural of the object.
    pub resource: &'a str,
    /// Its namespace, or empty.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What shall be stored.
    pub new: &'a Value,
    /// What is stored, on update.
    pub old: Option<&'a Value>,
}

impl RoleWrite<'_> {
    fn is_any(&self, plurals: [&str; 2]) -> bool {
        self.group == GROUP && plurals.contains(&self.resource)
    }
    fn ask(&self, verb: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            user: self.user.clone(),
            verb: verb.into(),
            group: GROUP.into(),
            version: "v1".into(),
            resource: resource.into(),
            namespace: self.namespace.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }
}

/// One write under review.
///
/// A role may be written by who holds all its rules, or the verb `escalate` on it; a binding by who
/// holds all rules of its role, or the verb `bind` on the role.
pub(crate) struct Review<'a> {
    pub(crate) authorizer: &'a Standard,
    pub(crate) write: &'a RoleWrite<'a>,
    pub(crate) objects: &'a dyn Lister,
}

impl Review<'_> {
    pub(crate) fn decide(&self) -> Result<(), String> {
        if self.write.is_any(["roles", "clusterroles"]) {
            self.role()
        } else if self.write.is_any(["rolebindings", "clusterrolebindings"]) {
            self.binding()
        } else {
            Ok(())
        }
    }

    fn role(&self) -> Result<(), String> {
        let RoleWrite { new, old, resource, name, .. } = *self.write;
        let rules = rules_of(new);
        let aggregates_anew = aggregation(new).is_some() && old.is_none_or(|old| aggregation(old) != aggregation(new));
        let grants_anew = old.is_none_or(|old| rules_of(old) != rules);
        if !(aggregates_anew || grants_anew) || self.may("escalate", resource, name) {
            return Ok(());
        }
        if aggregates_anew && self.missing(&everything()).is_some() {
            // it will hold whatever is labelled for it
            return Err(format!("{}must have cluster-admin privileges to use an aggregationRule", self.whoever()));
        }
        self.confirm(&rules)
    }

    fn binding(&self) -> Result<(), String> {
        let RoleWrite { new, old, namespace, .. } = *self.write;
        let same = |part: &str| old.is_some_and(|old| old.get(part) == new.get(part));
        let (resource, name) = referenced_role(new);
        if (same("roleRef") && same("subjects")) || self.may("bind", resource, &name) {
            return Ok(());
        }
        let namespace = if resource == "roles" { namespace } else { "" };
        match self.objects.get(GROUP, resource, namespace, &name).and_then(|role| role.tree().ok()) {
            Some(role) => self.confirm(&rules_of(&role)),
            // it could come to life with any rules
            None => Err(format!("{}cannot bind {resource} \"{name}\", which does not exist", self.whoever())),
        }
    }

    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        let asked = self.write.ask(verb, resource, name);
        matches!(self.authorizer.authorize(&asked, self.objects), Decision::Allow(_))
    }

    fn confirm(&self, granted: &[Rule]) -> Result<(), String> {
        self.missing(granted).map_or(Ok(()), |list| {
            Err(format!("{}is attempting to grant RBAC permissions not currently held:\n{list}", self.whoever()))
        })
    }

    /// What the writer lacks of `granted`, a line for each right.
    fn missing(&self, granted: &[Rule]) -> Option<String> {
        let (held, _) = self.authorizer.held(self.write.user, self.write.namespace, self.objects);
        let lines: Vec<String> = uncovered(granted, &held).iter().map(show).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    fn whoever(&self) -> String {
        format!("user \"{}\" (groups={:?}) ", self.write.user.name, self.write.user.groups)
    }
}

/// The rules of whoever may do everything.
pub(crate) fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

fn aggregation(role: &Value) -> Option<&Value> {
    role.get("aggregationRule").filter(|rule| !rule.is_null())
}

fn referenced_role(binding: &Value) -> (&'static str, String) {
    let text = |key: &str| binding.pointer(&format!("/roleRef/{key}")).and_then(Value::as_str).unwrap_or_default();
    let resource = if text("kind") == "Role" { "roles" } else { "clusterroles" };
    (resource, text("name").to_owned())
}

/// One line as Kubernetes prints rules.
fn show(rule: &Rule) -> String {
    let list = |name: &str, values: &[String]| {
        if values.is_empty() { None } else { Some(format!("{name}:{values:?}")) }
    };
    let parts = [
        list("APIGroups", &rule.api_groups),
        list("Resources", &rule.resources),
        list("ResourceNames", &rule.resource_names),
        list("NonResourceURLs", &rule.non_resource_urls),
        list("Verbs", &rule.verbs),
    ];
    format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// What of `granted` the rules `held` do not cover, broken down to single rights.
pub fn uncovered(granted: &[Rule], held: &[Rule]) -> Vec<Rule> {
    let mut missing: Vec<Rule> =
        granted.iter().flat_map(single_rights).filter(|right| !held.iter().any(|rule| contains(rule, right))).collect();
    missing.sort();
    missing.dedup();
    missing
}

/// A rule as rights of one verb on one resource (or path), of one name where it has names.
fn single_rights(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut rights = Vec::new();
    for verb in &rule.verbs {
        for url in &rule.non_resource_urls {
            rights.push(Rule { verbs: one(verb), non_resource_urls: one(url), ..Rule::default() });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let right =
                    Rule { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Rule::default() };
                if rule.resource_names.is_empty() {
                    rights.push(right);
                } else {
                    let named = |name| Rule { resource_names: one(name), ..right.clone() };
                    rights.extend(rule.resource_names.iter().map(named));
                }
            }
        }
    }
    rights
}

/// Does `rule` contain a right as [`single_rights`] makes them? Stars in the right count as themselves.
fn contains(rule: &Rule, right: &Rule) -> bool {
    if !right.verbs.iter().all(|verb| has(&rule.verbs, verb)) {
        return false;
    }
    if let Some(url) = right.non_resource_urls.first() {
        return rule.non_resource_urls.iter().any(|held| held == url || covers_path(held, url));
    }
    let resource_held = |right: &String| {
        let (resource, subresource) = right.split_once('/').unwrap_or((right, ""));
        rule.resources.iter().any(|held| held == right || covers_resource(held, resource, subresource))
    };
    right.api_groups.iter().all(|group| has(&rule.api_groups, group))
        && right.resources.iter().all(resource_held)
        && (rule.resource_names.is_empty()
            || (!right.resource_names.is_empty()
                && right.resource_names.iter().all(|name| rule.resource_names.contains(name))))
}
