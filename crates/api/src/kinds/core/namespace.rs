//! Namespace: a scope for names and policy.

use crate::error::Status;
use crate::kind::{Causes, Context, KindDef, NameRule, Strategy};
use crate::kinds::row::{Row, age, name, text};
use crate::meta::names;
use crate::tree;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Namespace", "namespaces")
        .cluster()
        .short(&["ns"])
        .without("deletecollection")
        .sub("finalize", "Namespace", &["update"])
        .status()
        .names(NameRule::Label)
        .select("status.phase")
        .columns([name(), text("Status", "status.phase"), age()])
        .strategy(&Namespace)
        .build()
}

struct Namespace;

impl Strategy for Namespace {
    fn default(&self, obj: &mut Value) {
        let name = tree::text(obj, "metadata.name").to_owned();
        if !name.is_empty()
            && let Some(labels) = tree::object(obj, "metadata").and_then(|m| tree::object(m, "labels"))
            && labels.get(NAME_LABEL).and_then(Value::as_str) != Some(&name)
            && let Some(labels) = labels.as_object_mut()
        {
            labels.insert(NAME_LABEL.to_owned(), name.into());
        }
        if let Some(status) = tree::object(obj, "status") {
            tree::set_default(status, "phase", "Active");
        }
    }
    fn prepare(&self, ctx: &Context<'_>, obj: &mut Value, old: Option<&Value>) {
        match (old, ctx.subresource) {
            (None, _) => {
                if let Some(spec) = tree::object(obj, "spec") {
                    tree::remove(spec, "finalizers");
                    tree::set_if_absent(spec, "finalizers", vec![FINALIZER]);
                }
            }
            (Some(_), "finalize") => {}
            (Some(old), _) => tree::copy(obj, old, "spec"),
        }
        // The name may have been generated after the defaults were set.
        self.default(obj);
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        for finalizer in spec.field("finalizers").items() {
            finalizer.invalid_each(names::qualified_name(finalizer.text()), out);
        }
    }
    fn counts_generation(&self, _def: &KindDef) -> bool {
        false
    }
    fn begin_deletion(&self, obj: &mut Value) {
        if let Some(status) = tree::object(obj, "status") {
            tree::remove(status, "phase");
            tree::set_default(status, "phase", "Terminating");
        }
    }
    fn holds_deletion(&self, obj: &Value) -> bool {
        !tree::list(obj, "spec.finalizers").is_empty()
    }
    fn check_delete(&self, obj: &Value) -> Result<(), Status> {
        let name = tree::text(obj, "metadata.name");
        if PERMANENT.contains(&name) {
            return Err(Status::forbidden("", "namespaces", name, "this namespace may not be deleted"));
        }
        Ok(())
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
}

/// What holds a namespace until its content is gone.
const FINALIZER: &str = "kubernetes";
/// Set on every namespace, so that selectors can name it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Namespaces the system cannot do without.
const PERMANENT: [&str; 3] = ["default", "kube-public", "kube-system"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::json;

    #[test]
    fn a_namespace_lives_until_its_finalizers_are_gone() {
        let ctx = Context {
            def: kinds::find("", "namespaces").expect("a row"),
            subresource: "",
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        let mut namespace = json!({"metadata": {"name": "a"}});
        Namespace.prepare(&ctx, &mut namespace, None);
        assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "a"}));
        assert_eq!(namespace["status"]["phase"], "Active");
        assert!(Namespace.holds_deletion(&namespace));
        Namespace.begin_deletion(&mut namespace);
        assert_eq!(namespace["status"]["phase"], "Terminating");
        let mut changed = namespace.clone();
        changed["spec"]["finalizers"] = json!([]);
        Namespace.prepare(&ctx, &mut changed, Some(&namespace));
        assert!(Namespace.holds_deletion(&changed), "an ordinary write does not touch the finalizers");
        let finalize = Context { subresource: "finalize", ..ctx };
        changed["spec"]["finalizers"] = json!([]);
        Namespace.prepare(&finalize, &mut changed, Some(&namespace));
        assert!(!Namespace.holds_deletion(&changed));
        assert!(Namespace.check_delete(&json!({"metadata": {"name": "default"}})).is_err());
    }
}
