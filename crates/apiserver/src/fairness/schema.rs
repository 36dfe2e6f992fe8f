//! Which flow a request belongs to: FlowSchemas read once, matched against each request
//! (API reference, FlowSchema v1).

use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule, Subject,
};
use kybern_api::attributes::{Attributes, UserInfo};

const ALL: &str = "*";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// A FlowSchema, in the order of precedence.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    precedence: i32,
    /// Name; the first of two with the same precedence counts.
    pub(super) name: String,
}

/// What a FlowSchema says.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) place: Place,
    pub(super) uid: String,
    /// Name of the priority level.
    pub(super) level: String,
    distinguisher: Option<String>,
    rules: Vec<PolicyRulesWithSubjects>,
}

impl Schema {
    /// None: it has no spec, so it matches nothing.
    pub(super) fn of(schema: FlowSchema) -> Option<Self> {
        let spec = schema.spec?;
        Some(Self {
            place: Place {
                precedence: spec.matching_precedence.unwrap_or(1000),
                name: schema.metadata.name.unwrap_or_default(),
            },
            uid: schema.metadata.uid.unwrap_or_default(),
            level: spec.priority_level_configuration.name,
            distinguisher: spec.distinguisher_method.map(|d| d.type_),
            rules: spec.rules.unwrap_or_default(),
        })
    }

    /// Does the request belong to it?
    pub(super) fn matches(&self, user: &UserInfo, request: &Attributes) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|s| is_subject(s, user))
                && if request.is_resource() {
                    rule.resource_rules.iter().flatten().any(|r| of_resource(r, request))
                } else {
                    rule.non_resource_rules.iter().flatten().any(|r| of_path(r, request))
                }
        })
    }

    /// Tells the flows of a schema apart.
    pub(super) fn flow<'r>(&self, user: &'r UserInfo, request: &'r Attributes) -> &'r str {
        match self.distinguisher.as_deref() {
            Some("ByUser") => &user.name,
            Some("ByNamespace") => &request.namespace,
            _ => "",
        }
    }
}

fn is_subject(subject: &Subject, user: &UserInfo) -> bool {
    if let Some(named) = &subject.user {
        return named.name == ALL || named.name == user.name;
    }
    if let Some(group) = &subject.group {
        return group.name == ALL || user.is_in(&group.name);
    }
    let Some(account) = &subject.service_account else { return false };
    let named = user.name.strip_prefix(SERVICE_ACCOUNT).and_then(|n| n.split_once(':'));
    named.is_some_and(|(ns, name)| ns == account.namespace && (account.name == ALL || name == account.name))
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|l| l == ALL || l == value)
}

fn of_resource(rule: &ResourcePolicyRule, request: &Attributes) -> bool {
    let sub = request.subresource.as_str();
    let named = |rule: &String| match rule.split_once('/') {
        Some((resource, of)) => resource == request.resource && of == sub,
        None => rule == ALL || sub.is_empty() && *rule == request.resource,
    };
    let scope = if request.namespace.is_empty() {
        rule.cluster_scope.unwrap_or(false)
    } else {
        has(rule.namespaces.as_deref().unwrap_or_default(), &request.namespace)
    };
    scope
        && has(&rule.verbs, &request.verb)
        && has(&rule.api_groups, &request.group)
        && rule.resources.iter().any(named)
}

fn of_path(rule: &NonResourcePolicyRule, request: &Attributes) -> bool {
    let covers = |url: &String| match url.strip_suffix('*') {
        Some(prefix) => request.path.starts_with(prefix),
        None => *url == request.path,
    };
    has(&rule.verbs, &request.verb) && rule.non_resource_urls.iter().any(covers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn schema(rules: &Value) -> Schema {
        let it =
            json!({"metadata": {"name": "s"}, "spec": {"priorityLevelConfiguration": {"name": "l"}, "rules": [rules]}});
        Schema::of(from_value(it).expect("a schema")).expect("a spec")
    }

    fn user(name: &str) -> UserInfo {
        UserInfo { name: name.into(), groups: vec!["devs".into()], ..UserInfo::default() }
    }

    fn request(verb: &str, resource: &str, namespace: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn subjects_are_users_groups_and_service_accounts() {
        let rule = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
        let fits = |subject: Value, name: &str| {
            let it = schema(&json!({"subjects": [subject], "resourceRules": rule}));
            it.matches(&user(name), &request("get", "pods", "a"))
        };
        let account =
            |name: &str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": name}});
        assert!(fits(json!({"kind": "User", "user": {"name": "jane"}}), "jane"));
        assert!(!fits(json!({"kind": "User", "user": {"name": "jane"}}), "joe"));
        assert!(fits(json!({"kind": "User", "user": {"name": "*"}}), "joe"));
        assert!(fits(json!({"kind": "Group", "group": {"name": "devs"}}), "joe"));
        assert!(fits(account("x"), "system:serviceaccount:n:x") && fits(account("*"), "system:serviceaccount:n:y"));
        assert!(!fits(account("x"), "system:serviceaccount:m:x") && !fits(account("*"), "system:serviceaccounts"));
    }

    #[test]
    fn rules_are_of_resources_in_a_scope_or_of_paths() {
        let subjects = json!([{"kind": "Group", "group": {"name": "devs"}}]);
        let it = schema(&json!({"subjects": subjects,
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/status"], "namespaces": ["a"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/logs/*"]}]}));
        let of = |verb, resource, namespace| it.matches(&user("joe"), &request(verb, resource, namespace));
        assert!(of("get", "pods", "a") && of("get", "pods/status", "a"));
        assert!(
            !of("list", "pods", "a")
                && !of("get", "pods/log", "a")
                && !of("get", "pods", "b")
                && !of("get", "pods", "")
        );
        let path = |path: &str| it.matches(&user("joe"), &Attributes { path: path.into(), ..request("get", "", "") });
        assert!(path("/healthz") && path("/logs/x") && !path("/healthz/x") && !path("/metrics"));
    }
}
