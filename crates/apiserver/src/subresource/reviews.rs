//! Kinds that can only be created: questions that are answered and forgotten, and bindings.

mod selectors;

use crate::present::Answer;
use crate::registry::gate::Gate;
use crate::registry::kinds::Resource;
use crate::registry::metadata;
use crate::request::chain::Authorized;
use crate::server::Inner;
use crate::subresource::binding;
use crate::verbs::{Payload, create, no_such_path};
use kybern_admission::Operation;
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::codec;
use kybern_api::error::Status;
use kybern_api::kind::Context;
use kybern_api::tree;
use kybern_authn::{Credentials, Outcome};
use kybern_rbac::Decision;
use serde_json::{Value, json};

/// Each audience of a TokenReview is judged by itself.
const MAX_AUDIENCES: usize = 64;

/// What answers a review: status from spec.
type Answerer = fn(&Inner, &Authorized, &Value) -> Result<Value, Status>;

/// One line per kind; a kind that is not here and can only be created has no behaviour to call on.
const ANSWERERS: [(&str, &str, Answerer); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews", self_subject),
    ("authentication.k8s.io", "tokenreviews", token),
    ("authorization.k8s.io", "selfsubjectaccessreviews", self_access),
    ("authorization.k8s.io", "selfsubjectrulesreviews", self_rules),
    ("authorization.k8s.io", "subjectaccessreviews", access),
    ("authorization.k8s.io", "localsubjectaccessreviews", access),
];

/// POST of such a kind.
pub(crate) async fn run(
    server: &Inner,
    resource: &Resource,
    auth: Authorized,
    payload: Payload,
) -> Result<Answer, Status> {
    let options = Default::default();
    let mut obj = create::decode(resource, &auth, &payload, &options)?;
    let def = resource.def();
    metadata::same_namespace(&mut obj, auth.namespace())?;
    let answerer = ANSWERERS.iter().find(|(group, plural, _)| *group == def.group && *plural == def.plural);
    let Some((_, _, answer)) = answerer else { return bind(server, &auth, obj).await };
    server.barrier().await?;
    Gate::new(server, &auth, resource).pass(Operation::Create, auth.name(), Some(&mut obj), None).await?;
    let mut causes = Vec::new();
    def.strategy.validate(&Context { def, subresource: "", now: auth.now }, &obj, None, &mut causes);
    if !causes.is_empty() {
        return Err(Status::invalid(&def.group, &def.kind, "", causes));
    }
    // A token under review may be one that somebody outside has to be asked about.
    let bearer = Some(tree::text(&obj, "spec.token")).filter(|b| !b.is_empty());
    if bearer.is_some() {
        server.known_outside(&Credentials { bearer, now: auth.now.as_second(), ..Credentials::default() }).await;
    }
    obj["status"] = answer(server, &auth, &obj)?;
    obj["metadata"]["creationTimestamp"] = metadata::time(auth.now).into();
    Ok(Answer::Tree(codec::served_tree(def, resource.served(), obj), 201))
}

/// A Binding posted to its collection names its pod in the body.
async fn bind(server: &Inner, auth: &Authorized, obj: Value) -> Result<Answer, Status> {
    let pods = server.kinds.find("", "v1", "pods").ok_or_else(no_such_path)?;
    let name = metadata::text(&obj, "name").to_owned();
    binding::bind(server, &pods, auth, &name, obj).await
}

fn self_subject(_: &Inner, auth: &Authorized, _: &Value) -> Result<Value, Status> {
    Ok(json!({"userInfo": auth.attributes.user}))
}

fn token(server: &Inner, auth: &Authorized, obj: &Value) -> Result<Value, Status> {
    let bearer = tree::text(obj, "spec.token");
    if bearer.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let own = server.issuer.as_ref().map_or(&[][..], |issuer| issuer.audiences());
    let asked = texts(&obj["spec"]["audiences"]);
    if asked.len() > MAX_AUDIENCES {
        return Err(Status::bad_request(format!("spec.audiences: Too many: must have at most {MAX_AUDIENCES} items")));
    }
    let judge = |audiences: &[String]| {
        let now = auth.now.as_second();
        let credentials = Credentials { bearer: Some(bearer), audiences, now, ..Credentials::default() };
        server.authenticator.authenticate(&credentials, server.kinds.as_ref())
    };
    // One by one, so that the answer names those that the token is good for.
    let wanted = if asked.is_empty() { own } else { &asked };
    let mut found = None;
    let mut audiences = Vec::new();
    for audience in wanted {
        let of_server = own.contains(audience);
        match judge(if of_server { &[] } else { std::slice::from_ref(audience) }) {
            Outcome::Known(user) => {
                found = Some(user);
                audiences.push(audience.as_str());
            }
            Outcome::NoOpinion | Outcome::Rejected(_) | Outcome::Absent(_) | Outcome::Pending => {}
        }
    }
    if wanted.is_empty()
        && let Outcome::Known(user) = judge(&[])
    {
        found = Some(user);
    }
    Ok(match found {
        Some(user) => json!({"authenticated": true, "user": user, "audiences": audiences}),
        None => json!({"authenticated": false, "error": "the token is not valid"}),
    })
}

fn self_access(server: &Inner, auth: &Authorized, obj: &Value) -> Result<Value, Status> {
    judge(server, auth.attributes.user.clone(), obj)
}

fn access(server: &Inner, _: &Authorized, obj: &Value) -> Result<Value, Status> {
    judge(server, subject(obj), obj)
}

fn self_rules(server: &Inner, auth: &Authorized, obj: &Value) -> Result<Value, Status> {
    let namespace = tree::text(obj, "spec.namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    Ok(server.authorizer.rules_for(&auth.attributes.user, namespace, server.kinds.as_ref()))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|g| g.as_str().map(str::to_owned)).collect()
}

/// The user of a SubjectAccessReview; its spec says `user` where a UserInfo says `username`.
fn subject(obj: &Value) -> UserInfo {
    let spec = obj.get("spec").cloned().unwrap_or_default();
    UserInfo {
        name: tree::text(&spec, "user").to_owned(),
        uid: tree::text(&spec, "uid").to_owned(),
        groups: texts(&spec["groups"]),
        extra: tree::entries(&spec, "extra").map(|(k, v)| (k.clone(), texts(v))).collect(),
    }
}

fn judge(server: &Inner, user: UserInfo, obj: &Value) -> Result<Value, Status> {
    let attributes = asked(user, &obj["spec"])?;
    Ok(match server.authorizer.authorize(&attributes, server.kinds.as_ref()) {
        Decision::Allow(reason) => json!({"allowed": true, "reason": reason}),
        Decision::Deny(reason) => json!({"allowed": false, "denied": true, "reason": reason}),
        Decision::NoOpinion(reason) => json!({"allowed": false, "reason": reason}),
    })
}

/// What a review asks about; the kind's validation has seen to it that it is one thing.
fn asked(user: UserInfo, spec: &Value) -> Result<Attributes, Status> {
    let text = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    Ok(match spec.get("resourceAttributes").filter(|v| v.is_object()) {
        Some(r) => Attributes {
            user,
            verb: text(r, "verb"),
            group: text(r, "group"),
            version: text(r, "version"),
            resource: text(r, "resource"),
            subresource: text(r, "subresource"),
            namespace: text(r, "namespace"),
            name: text(r, "name"),
            field_selector: selectors::field(r)?,
            label_selector: selectors::label(r)?,
            ..Attributes::default()
        },
        None => {
            let path = &spec["nonResourceAttributes"];
            Attributes { user, verb: text(path, "verb"), path: text(path, "path"), ..Attributes::default() }
        }
    })
}
