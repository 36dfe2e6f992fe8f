//! Priority: a pod's class becomes its number.

use crate::paths::{is_mirror_pod, object_mut, text};
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use kybern_api::kinds::SYSTEM_PRIORITIES;
use kybern_api::object::Object;
use serde::Deserialize;
use serde_json::Value;

const GROUP: &str = "scheduling.k8s.io";
const DEFAULT_POLICY: &str = "PreemptLowerPriority";

#[derive(Debug)]
pub(crate) struct Priority;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClassView {
    value: i32,
    global_default: bool,
    preemption_policy: Option<String>,
}

/// What a pod gets.
struct Class {
    name: String,
    value: i32,
    policy: String,
}

impl Class {
    fn of(object: &Object) -> Option<Self> {
        let view: ClassView = object.view().ok()?;
        let policy = view.preemption_policy.unwrap_or_else(|| DEFAULT_POLICY.to_owned());
        Some(Self { name: object.head.name.to_string(), value: view.value, policy })
    }
}

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, env: &Env<'_>) -> Result<(), Status> {
        let Some(pod) = obj.filter(|_| req.is("", "pods") && req.subresource.is_empty()) else { return Ok(()) };
        match (req.operation, req.old) {
            (Operation::Create, _) => resolve(req, pod, env),
            (Operation::Update, Some(old)) => {
                keep(pod, old);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        let system = SYSTEM_PRIORITIES.iter().any(|(name, _)| *name == req.name);
        if system && req.is_main(GROUP, "priorityclasses", &[Operation::Delete]) {
            return Err(req.forbidden("this is a system priority class and cannot be deleted"));
        }
        let operations = [Operation::Create, Operation::Update];
        let Some(class) = obj.filter(|_| req.is_main(GROUP, "priorityclasses", &operations)) else { return Ok(()) };
        if !is_default(class) {
            return Ok(());
        }
        let classes = env.objects.list(GROUP, "priorityclasses", None);
        let other = classes.iter().find(|other| {
            other.head.name != req.name && other.view::<ClassView>().is_ok_and(|view| view.global_default)
        });
        match other {
            Some(other) => Err(req.forbidden(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.head.name
            ))),
            None => Ok(()),
        }
    }
}

fn is_default(class: &Value) -> bool {
    class.get("globalDefault").and_then(Value::as_bool).unwrap_or_default()
}

/// On update a client that does not know the computed fields does not clear them.
fn keep(pod: &mut Value, old: &Value) {
    let Some(spec) = object_mut(pod, "spec") else { return };
    for field in ["priority", "preemptionPolicy"] {
        if spec.get(field).is_none_or(Value::is_null)
            && let Some(value) = old.pointer(&format!("/spec/{field}")).filter(|value| !value.is_null())
        {
            spec.insert(field.into(), value.clone());
        }
    }
}

fn resolve(req: &Request<'_>, pod: &mut Value, env: &Env<'_>) -> Result<(), Status> {
    let name = text(pod, "/spec/priorityClassName").to_owned();
    // a mirror pod brings its number along: the node runs it already
    if is_mirror_pod(pod) && name.is_empty() && pod.pointer("/spec/priority").is_some() {
        return Ok(());
    }
    let class = if name.is_empty() { Some(default_class(env)) } else { find(&name, env) };
    let class = class.ok_or_else(|| req.forbidden(&format!("no PriorityClass with name {name} was found")))?;
    let Some(spec) = object_mut(pod, "spec") else { return Ok(()) };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64)
        && given != i64::from(class.value)
    {
        return Err(req.forbidden(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
             controller computed {} from the given PriorityClass name",
            class.value
        )));
    }
    if let Some(given) = spec.get("preemptionPolicy").and_then(Value::as_str)
        && given != class.policy
    {
        return Err(req.forbidden(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {} from the given PriorityClass name",
            class.policy
        )));
    }
    if !class.name.is_empty() {
        spec.insert("priorityClassName".into(), class.name.into());
    }
    spec.insert("priority".into(), class.value.into());
    spec.insert("preemptionPolicy".into(), class.policy.into());
    Ok(())
}

fn find(name: &str, env: &Env<'_>) -> Option<Class> {
    let stored = env.objects.get(GROUP, "priorityclasses", "", name).as_ref().and_then(Class::of);
    let built_in = || {
        // Every cluster has these, also before their objects are there.
        let (_, value) = SYSTEM_PRIORITIES.iter().find(|(known, _)| *known == name)?;
        Some(Class { name: name.to_owned(), value: i32::try_from(*value).ok()?, policy: DEFAULT_POLICY.to_owned() })
    };
    stored.or_else(built_in)
}

/// The class marked as default (the lowest of several), or priority 0 without a class.
fn default_class(env: &Env<'_>) -> Class {
    let classes = env.objects.list(GROUP, "priorityclasses", None);
    classes
        .iter()
        .filter(|class| class.view::<ClassView>().is_ok_and(|view| view.global_default))
        .filter_map(Class::of)
        .min_by(|a, b| a.value.cmp(&b.value))
        .unwrap_or_else(|| Class { name: String::new(), value: 0, policy: DEFAULT_POLICY.to_owned() })
}
