//! StatefulSet: pods with stable names and storage.

use crate::kind::{Causes, Context, KindDef, NameRule, Strategy};
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, name};
use crate::kinds::workload;
use crate::tree;
use crate::validate;
use crate::validate::{Field, Holder};
use serde_json::{Value, json};

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("apps", "v1", "StatefulSet", "statefulsets")
        .pods_from("/spec/template")
        .short(&["sts"])
        .category("all")
        .scale()
        .status()
        .names(NameRule::Label)
        .columns([name(), workload::ready(), age(), containers, images])
        .strategy(&StatefulSet)
        .build()
}

struct StatefulSet;

impl Strategy for StatefulSet {
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::set_default(spec, "podManagementPolicy", "OrderedReady");
        tree::set_if_absent(spec, "replicas", 1);
        tree::set_if_absent(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = tree::object(spec, "updateStrategy") {
            update_strategy(strategy);
        }
        if let Some(retention) = tree::object(spec, "persistentVolumeClaimRetentionPolicy") {
            tree::set_default(retention, "whenDeleted", "Retain");
            tree::set_default(retention, "whenScaled", "Retain");
        }
        tree::each(spec, "volumeClaimTemplates", claim_template);
        if let Some(template) = spec.get_mut("template") {
            pod_defaults::template(template);
        }
    }
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        if ctx.subresource == "status" {
            return status(&root.field("status"), old, out);
        }
        let spec = root.field("spec");
        let policy = spec.field("podManagementPolicy");
        if policy.demand(out) && !["OrderedReady", "Parallel"].contains(&policy.text()) {
            policy.invalid("must be 'OrderedReady' or 'Parallel'", out);
        }
        rollout(&spec.field("updateStrategy"), out);
        let retention = spec.field("persistentVolumeClaimRetentionPolicy");
        if retention.present() {
            for when in ["whenDeleted", "whenScaled"] {
                retention.field(when).one_of(&["Retain", "Delete"], out);
            }
        }
        spec.field("ordinals").field("start").not_negative(out);
        validate::workload(&spec, "statefulset", old, out);
        template(&spec, out);
        if let Some(old) = old {
            unchanged(&spec, old, out);
        }
    }
}

fn rollout(strategy: &Field<'_, '_>, out: &mut Causes) {
    let rolling = strategy.field("rollingUpdate");
    match strategy.field("type").text() {
        "" => strategy.required("", out),
        "OnDelete" if rolling.present() => rolling.invalid("only allowed for updateStrategy 'RollingUpdate'", out),
        "RollingUpdate" if rolling.present() => {
            rolling.field("partition").not_negative(out);
            let unavailable = rolling.field("maxUnavailable");
            validate::share(&unavailable, out);
            if validate::is_zero_share(&unavailable) {
                unavailable.invalid("cannot be 0", out);
            }
        }
        "OnDelete" | "RollingUpdate" => {}
        _ => strategy.invalid("must be 'RollingUpdate' or 'OnDelete'", out),
    }
}

/// Checks the template together with the volumes that the claim templates will add to it.
fn template(spec: &Field<'_, '_>, out: &mut Causes) {
    let mut whole = spec.field("template").value.clone();
    let names = tree::list(spec.value, "volumeClaimTemplates").iter().map(|c| tree::text(c, "metadata.name"));
    let claims: Vec<Value> =
        names.map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
    if !claims.is_empty()
        && let Some(pod) = whole.get_mut("spec").filter(|s| s.is_object())
    {
        tree::set_if_absent(pod, "volumes", Vec::<Value>::new());
        if let Some(volumes) = pod["volumes"].as_array_mut() {
            // They take the place of volumes of the same name.
            volumes.retain(|v| claims.iter().all(|c| c["name"] != v["name"]));
            volumes.extend(claims);
        }
    }
    validate::template(&spec.field("template").instead(&whole), Holder::Forever("StatefulSet"), out);
}

fn status(status: &Field<'_, '_>, old: Option<&Value>, out: &mut Causes) {
    validate::counts(status, &["replicas", "readyReplicas", "currentReplicas", "updatedReplicas"], out);
    validate::counts(status, &["availableReplicas", "observedGeneration"], out);
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    validate::parts(status, &parts, "replicas", "status.replicas", out);
    validate::parts(status, &["availableReplicas"], "readyReplicas", "status.readyReplicas", out);
    validate::collisions(status, old, out);
}

fn update_strategy(strategy: &mut Value) {
    let implied = tree::unset(strategy.get("type"));
    tree::set_default(strategy, "type", "RollingUpdate");
    let rolling = tree::text(strategy, "type") == "RollingUpdate";
    if rolling
        && (implied || strategy.get("rollingUpdate").is_some())
        && let Some(rolling) = tree::object(strategy, "rollingUpdate")
    {
        tree::set_if_absent(rolling, "partition", 0);
        tree::set_if_absent(rolling, "maxUnavailable", 1);
    }
}

fn claim_template(claim: &mut Value) {
    tree::set_default(claim, "apiVersion", "v1");
    tree::set_default(claim, "kind", "PersistentVolumeClaim");
    if let Some(spec) = claim.get_mut("spec") {
        tree::set_default(spec, "volumeMode", "Filesystem");
    }
    if let Some(status) = tree::object(claim, "status") {
        tree::set_default(status, "phase", "Pending");
    }
}

/// What may change; all else of the spec may not.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn unchanged(spec: &Field<'_, '_>, old: &Value, out: &mut Causes) {
    let mut rest = spec.value.clone();
    let old = tree::at(old, "spec").unwrap_or(&tree::NULL);
    MUTABLE.iter().for_each(|key| tree::copy(&mut rest, old, key));
    if rest != *old {
        spec.forbidden(
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            out,
        );
    }
}
