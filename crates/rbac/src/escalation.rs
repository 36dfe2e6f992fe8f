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

impl Standard {
    /// May this role or binding be written by this user? Objects of other kinds pass.
    ///
    /// A role may be written by who holds all its rules, or the verb `escalate` on it; a binding by who
    /// holds all rules of its role, or the verb `bind` on the role.
    ///
    /// # Errors
    /// The text of the 403.
    pub fn review_write(&self, write: &RoleWrite<'_>, objects: &dyn Lister) -> Result<(), String> {
        let (rules, verb, resource, name) = if write.is_any(["roles", "clusterroles"]) {
            let rules = rules_of(write.new);
            if write.old.is_some_and(|old| rules_of(old) == rules && aggregation(old) == aggregation(write.new)) {
                return Ok(());
            }
            if aggregation(write.new).is_some()
                && write.old.is_none_or(|old| aggregation(old) != aggregation(write.new))
            {
                return self.review_aggregation(write, &rules, objects);
            }
            (rules, "escalate", write.resource.to_owned(), write.name.to_owned())
        } else if write.is_any(["rolebindings", "clusterrolebindings"]) {
            let same = |old: &Value| {
                old.get("roleRef") == write.new.get("roleRef") && old.get("subjects") == write.new.get("subjects")
            };
            if write.old.is_some_and(same) {
                return Ok(());
            }
            let (resource, name) = referenced_role(write.new);
            let namespace = if resource == "roles" { write.namespace } else { "" };
            let role = objects.get(GROUP, resource, namespace, &name).and_then(|role| role.tree().ok());
            let Some(role) = role else { return self.review_unknown(write, resource, &name, objects) };
            (rules_of(&role), "bind", resource.to_owned(), name)
        } else {
            return Ok(());
        };
        if self.may(write.ask(verb, &resource, &name), objects) {
            return Ok(());
        }
        self.confirm(write, &rules, objects)
    }

    /// Whoever lets a role aggregate others grants whatever those will hold.
    fn review_aggregation(&self, write: &RoleWrite<'_>, rules: &[Rule], objects: &dyn Lister) -> Result<(), String> {
        if self.may(write.ask("escalate", write.resource, write.name), objects) {
            return Ok(());
        }
        let all = || vec!["*".to_owned()];
        let everything = [
            Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
            Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
        ];
        self.confirm(write, &everything, objects).map_err(|_| {
            format!("{}must have cluster-admin privileges to use an aggregationRule", whoever(write.user))
        })?;
        self.confirm(write, rules, objects)
    }

    /// A binding to a role that does not exist could come alive with anything.
    fn review_unknown(
        &self,
        write: &RoleWrite<'_>,
        resource: &str,
        name: &str,
        objects: &dyn Lister,
    ) -> Result<(), String> {
        if self.may(write.ask("bind", resource, name), objects) {
            return Ok(());
        }
        Err(format!("{}cannot bind {resource} \"{name}\", which does not exist", whoever(write.user)))
    }

    fn may(&self, asked: Attributes, objects: &dyn Lister) -> bool {
        matches!(self.authorize(&asked, objects), Decision::Allow(_))
    }

    fn confirm(&self, write: &RoleWrite<'_>, granted: &[Rule], objects: &dyn Lister) -> Result<(), String> {
        let (held, _) = self.held(write.user, write.namespace, objects);
        let missing = uncovered(granted, &held);
        if missing.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = missing.iter().map(show).collect();
        Err(format!(
            "{}is attempting to grant RBAC permissions not currently held:\n{}",
            whoever(write.user),
            list.join("\n")
        ))
    }
}

fn whoever(user: &UserInfo) -> String {
    format!("user \"{}\" (groups={:?}) ", user.name, user.groups)
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
