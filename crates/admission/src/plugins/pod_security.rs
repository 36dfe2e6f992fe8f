//! PodSecurity: what the pods of a namespace may do to their node, by the levels of the Pod Security
//! Standards that the namespace's labels name (KEP-2579).
//!
//! `enforce` refuses pods; `audit` and `warn` also look at the templates of workloads. `policy` reads the
//! labels, `checks` is the table of rules with the versions in which they appeared, one function each.

mod baseline;
mod checks;
mod pod;
mod policy;
mod restricted;

use crate::paths::text;
use crate::plugin::{Env, Operation, Plugin, Request};
use checks::evaluate;
use kybern_api::error::Status;
use kybern_api::validate::Field;
use pod::Pod;
use policy::{Level, Policy, Standard};
use serde_json::{Map, Value};

#[derive(Debug)]
pub(crate) struct PodSecurity;

/// Most pods of a namespace that a change of its labels looks at.
const EXISTING_PODS: usize = 3000;

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        let Some(object) = obj.filter(|_| matches!(req.operation, Operation::Create | Operation::Update)) else {
            return Ok(());
        };
        if req.is("", "namespaces") {
            return if req.subresource.is_empty() { namespace(req, object, env) } else { Ok(()) };
        }
        if req.is("", "pods") {
            return if concerns(req, object) { judge(req, object, env) } else { Ok(()) };
        }
        if req.subresource.is_empty()
            && let Some(template) = req.def.pod_template.and_then(|at| object.pointer(at))
        {
            suggest(req, template, env)?;
        }
        Ok(())
    }
}

/// Does this request change what the standards look at? Status and bindings do not; nor does an update that
/// touches only what a running pod may change.
fn concerns(req: &Request<'_>, pod: &Value) -> bool {
    match req.subresource {
        "ephemeralcontainers" => true,
        "" => req.old.is_none_or(|old| significant(old) != significant(pod)),
        _ => false,
    }
}

/// A pod without what may be updated freely: images, tolerations and the deadline of its spec, and of its
/// metadata all but the annotations that name profiles.
fn significant(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    for key in ["containers", "initContainers"] {
        let containers = spec.get_mut(key).and_then(Value::as_array_mut);
        containers.into_iter().flatten().filter_map(Value::as_object_mut).for_each(|c| _ = c.remove("image"));
    }
    if let Some(spec) = spec.as_object_mut() {
        for key in ["tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds"] {
            spec.remove(key);
        }
    }
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    let profiles: Map<String, Value> = annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(pod::APPARMOR) || key.starts_with(pod::SECCOMP))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    serde_json::json!([spec, profiles])
}

fn policy_of(req: &Request<'_>, env: &Env<'_>) -> Result<Policy, Status> {
    let Some(namespace) = env.objects.get("", "namespaces", "", req.namespace) else { return Ok(Policy::default()) };
    let tree = namespace.tree().map_err(|e| Status::internal(e.to_string()))?;
    Ok(Policy::read(tree.pointer("/metadata/labels")))
}

/// A pod: refused, or let in with a warning.
fn judge(req: &Request<'_>, object: &Value, env: &Env<'_>) -> Result<(), Status> {
    let policy = policy_of(req, env)?;
    let pod = Pod::new(object);
    let findings = evaluate(&policy.enforce, &pod);
    if !findings.is_empty() {
        let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, findings.join(", "));
        return Err(req.forbidden(&why));
    }
    warn(&policy.warn, &pod, env);
    Ok(())
}

/// A workload is never refused: its author hears what will become of its pods.
fn suggest(req: &Request<'_>, template: &Value, env: &Env<'_>) -> Result<(), Status> {
    let policy = policy_of(req, env)?;
    warn(&policy.warn, &Pod::new(template), env);
    Ok(())
}

fn warn(standard: &Standard, pod: &Pod<'_>, env: &Env<'_>) {
    let findings = evaluate(standard, pod);
    if !findings.is_empty() {
        (env.warn)(format!("would violate PodSecurity \"{standard}\": {}", findings.join(", ")));
    }
}

/// A namespace: its labels must be levels and versions, and a stricter rule warns of the pods that are there.
fn namespace(req: &Request<'_>, object: &Value, env: &Env<'_>) -> Result<(), Status> {
    let labels = object.pointer("/metadata/labels");
    let root = Field::root(object);
    let before = req.old.and_then(|old| old.pointer("/metadata/labels"));
    let mistakes = policy::mistakes(&root);
    // What was wrong before may stay until it is mended.
    if !mistakes.is_empty() && req.old.is_none_or(|old| policy::mistakes(&Field::root(old)) != mistakes) {
        return Err(Status::invalid(&req.def.group, &req.def.kind, text(object, "/metadata/name"), mistakes));
    }
    let (new, old) = (Policy::read(labels).enforce, Policy::read(before).enforce);
    if req.old.is_some() && new != old && new.level != Level::Privileged {
        warn_of_existing(&new, text(object, "/metadata/name"), env);
    }
    Ok(())
}

/// Tells which kinds of violation the pods of a namespace already have, and how many pods each.
fn warn_of_existing(standard: &Standard, namespace: &str, env: &Env<'_>) {
    let mut groups: Vec<(Vec<String>, String, usize)> = Vec::new();
    for object in env.objects.list("", "pods", Some(namespace)).into_iter().take(EXISTING_PODS) {
        let Ok(tree) = object.tree() else { continue };
        let findings = checks::reasons(standard, &Pod::new(&tree));
        if findings.is_empty() {
            continue;
        }
        match groups.iter_mut().find(|(known, _, _)| *known == findings) {
            Some((_, first, count)) => {
                *count += 1;
                let name = object.head.name.to_string();
                if name < *first {
                    *first = name;
                }
            }
            None => groups.push((findings, object.head.name.to_string(), 1)),
        }
    }
    if groups.is_empty() {
        return;
    }
    groups.sort_by(|a, b| a.1.cmp(&b.1));
    (env.warn)(format!(
        "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{standard}\""
    ));
    for (findings, first, count) in groups {
        let others = match count {
            1 => String::new(),
            2 => " (and 1 other pod)".to_owned(),
            n => format!(" (and {} other pods)", n - 1),
        };
        (env.warn)(format!("{first}{others}: {}", findings.join(", ")));
    }
}
