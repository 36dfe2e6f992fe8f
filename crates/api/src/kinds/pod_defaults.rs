//! Defaults of pod specs: one set for pods and for all templates, and what only pods get.

use crate::meta::quantity::Quantity;
use crate::tree::{at, at_mut, each, object, remove, set_default, set_default_nonzero, set_if_absent, text, unset};
use serde_json::{Map, Value};

/// rw-r--r--, in which files of projected volumes appear.
const FILE_MODE: i64 = 0o644;

/// Defaults a pod template (an object with a `spec` that is a pod spec).
pub(crate) fn template(template: &mut Value) {
    if let Some(spec) = template.get_mut("spec") {
        pod_spec(spec);
    }
}

/// Defaults a pod spec, wherever it stands.
pub(crate) fn pod_spec(spec: &mut Value) {
    set_default(spec, "restartPolicy", "Always");
    set_default(spec, "dnsPolicy", "ClusterFirst");
    set_default(spec, "schedulerName", "default-scheduler");
    set_if_absent(spec, "terminationGracePeriodSeconds", 30);
    set_if_absent(spec, "securityContext", Map::new());
    service_account(spec);
    each(spec, "volumes", volume);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, container);
    }
    if let Some(overhead) = spec.get_mut("overhead") {
        round(overhead);
    }
}

/// Defaults that pods get and templates do not.
pub(crate) fn pod_only(spec: &mut Value) {
    set_if_absent(spec, "enableServiceLinks", true);
    let host_network = at(spec, "hostNetwork") == Some(&Value::Bool(true));
    for list in ["initContainers", "containers"] {
        each(spec, list, |c| {
            if let Some(resources) = c.get_mut("resources") {
                requests_from_limits(resources);
            }
            if host_network {
                each(c, "ports", |p| {
                    let port = p.get("containerPort").and_then(Value::as_i64).unwrap_or_default();
                    set_default_nonzero(p, "hostPort", port);
                });
            }
        });
    }
    pod_level(spec);
}

/// Resources of the pod as a whole: what every container says is their sum, else a request is its limit.
fn pod_level(spec: &mut Value) {
    if at(spec, "resources").is_none() {
        return;
    }
    for part in ["limits", "requests"] {
        let sums: Vec<(&str, Quantity)> =
            POD_LEVEL.iter().filter_map(|name| Some((*name, total(spec, part, name)?))).collect();
        if sums.is_empty() {
            continue;
        }
        if let Some(list) = object(spec, "resources").and_then(|r| object(r, part)) {
            sums.iter().for_each(|(name, sum)| set_if_absent(list, name, sum.to_string()));
        }
    }
    if let Some(resources) = spec.get_mut("resources") {
        requests_from_limits(resources);
    }
}

/// The resources that a pod as a whole can have.
const POD_LEVEL: [&str; 2] = ["cpu", "memory"];

/// The sum over the regular containers, if each of them says it.
fn total(spec: &Value, part: &str, name: &str) -> Option<Quantity> {
    let containers = at(spec, "containers")?.as_array()?;
    let amount = |c: &Value| Quantity::from_value(c.get("resources")?.get(part)?.get(name)?).ok();
    containers.iter().map(amount).sum::<Option<Quantity>>().filter(|q| !q.is_zero())
}

/// `serviceAccount` is the older name of `serviceAccountName`; each fills the other.
fn service_account(spec: &mut Value) {
    for (from, to) in [("serviceAccountName", "serviceAccount"), ("serviceAccount", "serviceAccountName")] {
        if unset(spec.get(to)) && !unset(spec.get(from)) {
            let name = text(spec, from).to_owned();
            set_default(spec, to, name);
        }
    }
}

fn container(c: &mut Value) {
    set_default(c, "terminationMessagePath", "/dev/termination-log");
    set_default(c, "terminationMessagePolicy", "File");
    pull_policy(c, "image", "imagePullPolicy");
    // Clients with typed templates always send it: a template sent back (rollout undo) must equal the stored one.
    set_if_absent(c, "resources", Map::new());
    each(c, "ports", |p| set_default(p, "protocol", "TCP"));
    each(c, "env", |e| {
        if let Some(from) = e.get_mut("valueFrom") {
            field_ref(from);
            if let Some(key) = from.get_mut("fileKeyRef") {
                set_if_absent(key, "optional", false);
            }
        }
    });
    for part in ["limits", "requests"] {
        if let Some(list) = c.get_mut("resources").and_then(|r| r.get_mut(part)) {
            round(list);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = c.get_mut(name) {
            probe(p);
        }
    }
    for hook in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(h) = at_mut(c, hook) {
            http_get(h);
        }
    }
}

fn probe(p: &mut Value) {
    set_default_nonzero(p, "timeoutSeconds", 1);
    set_default_nonzero(p, "periodSeconds", 10);
    set_default_nonzero(p, "successThreshold", 1);
    set_default_nonzero(p, "failureThreshold", 3);
    http_get(p);
    if let Some(grpc) = p.get_mut("grpc") {
        set_if_absent(grpc, "service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet") {
        set_default(get, "path", "/");
        set_default(get, "scheme", "HTTP");
    }
}

fn field_ref(holder: &mut Value) {
    if let Some(field) = holder.get_mut("fieldRef") {
        set_default(field, "apiVersion", "v1");
    }
}

/// `Always` for what may change under its name (`latest`, or no tag and no digest).
fn pull_policy(holder: &mut Value, image: &str, policy: &str) {
    if unset(holder.get(policy)) {
        let word = if follows_latest(text(holder, image)) { "Always" } else { "IfNotPresent" };
        set_default(holder, policy, word);
    }
}

fn follows_latest(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !digest && !image.is_empty(),
    }
}

/// Resources are kept in thousandths at the finest. The codec has made quantities canonical, so finer
/// ones are known by their suffix.
pub(super) fn round(list: &mut Value) {
    for quantity in list.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Value::String(text) = quantity
            && (text.ends_with(['n', 'u']) || text.contains("e-"))
            && let Ok(parsed) = text.parse::<Quantity>()
        {
            *text = parsed.rounded_to_milli().to_string();
        }
    }
}

fn requests_from_limits(resources: &mut Value) {
    let requests = at(resources, "requests").and_then(Value::as_object);
    let missing: Vec<(String, Value)> = at(resources, "limits")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(name, _)| requests.is_none_or(|r| !r.contains_key(*name)))
        .map(|(name, limit)| (name.clone(), limit.clone()))
        .collect();
    if missing.is_empty() {
        return;
    }
    if let Some(Value::Object(requests)) = object(resources, "requests") {
        requests.extend(missing);
    }
}

/// The sources whose files have a default mode.
const WITH_MODE: [&str; 4] = ["secret", "configMap", "downwardAPI", "projected"];

fn volume(v: &mut Value) {
    let Some(map) = v.as_object() else { return };
    if map.iter().all(|(key, source)| key == "name" || source.is_null()) {
        set_if_absent(v, "emptyDir", Map::new());
        return;
    }
    for source in WITH_MODE {
        if let Some(s) = v.get_mut(source) {
            set_if_absent(s, "defaultMode", FILE_MODE);
        }
    }
    if let Some(downward) = v.get_mut("downwardAPI") {
        each(downward, "items", field_ref);
    }
    if let Some(projected) = v.get_mut("projected") {
        each(projected, "sources", projection);
    }
    if let Some(image) = v.get_mut("image") {
        pull_policy(image, "reference", "pullPolicy");
    }
    if let Some(claim) = at_mut(v, "ephemeral.volumeClaimTemplate.spec") {
        set_default(claim, "volumeMode", "Filesystem");
    }
    storage_source(v);
}

fn projection(source: &mut Value) {
    if let Some(token) = source.get_mut("serviceAccountToken") {
        set_default_nonzero(token, "expirationSeconds", 3600);
    }
    if let Some(downward) = source.get_mut("downwardAPI") {
        each(downward, "items", field_ref);
    }
}

/// Defaults of the volume sources that persistent volumes have too.
pub(crate) fn storage_source(holder: &mut Value) {
    const DEFAULTS: [(&str, &str, &str); 9] = [
        ("iscsi", "iscsiInterface", "default"),
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("azureDisk", "cachingMode", "ReadWrite"),
        ("azureDisk", "kind", "Shared"),
        ("azureDisk", "fsType", "ext4"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
    ];
    for (source, field, value) in DEFAULTS {
        if let Some(s) = holder.get_mut(source) {
            set_default(s, field, value);
        }
    }
    if let Some(disk) = holder.get_mut("azureDisk") {
        set_if_absent(disk, "readOnly", false);
    }
    if let Some(path) = holder.get_mut("hostPath") {
        set_if_absent(path, "type", "");
    }
}

/// Copies the template's labels to where none are set: `metadata.labels` of the kinds that were there
/// before labels of their own were asked for.
pub(crate) fn labels_from_template(obj: &mut Value) {
    let empty = |v: Option<&Value>| v.and_then(Value::as_object).is_none_or(Map::is_empty);
    let labels = at(obj, "spec.template.metadata.labels");
    if empty(labels) || !empty(at(obj, "metadata.labels")) {
        return;
    }
    let labels = labels.cloned().unwrap_or_default();
    if let Some(metadata) = object(obj, "metadata") {
        remove(metadata, "labels");
        set_if_absent(metadata, "labels", labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn images_that_may_change_are_pulled_always() {
        for image in ["nginx", "nginx:latest", "reg:5000/nginx", "nginx:latest@sha256:0"] {
            assert!(follows_latest(image), "{image}");
        }
        for image in ["", "nginx:1", "reg:5000/nginx:1", "nginx@sha256:0"] {
            assert!(!follows_latest(image), "{image}");
        }
    }

    #[test]
    fn a_minimal_spec_gets_every_default() {
        let mut spec = json!({
            "serviceAccount": "sa", "volumes": [{"name": "a"}, {"name": "b", "hostPath": {"path": "/x"}},
                {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
            "containers": [{"name": "c", "image": "web:1", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1500u"}},
                "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 5}}],
            "initContainers": [{"name": "i", "image": "web:1"}],
        });
        pod_spec(&mut spec);
        let once = spec.clone();
        pod_spec(&mut spec);
        assert_eq!(spec, once, "defaults are idempotent");
        assert_eq!(
            spec,
            json!({
                "serviceAccount": "sa", "serviceAccountName": "sa", "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
                "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30, "securityContext": {},
                "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/x", "type": ""}},
                    {"name": "c", "projected": {"defaultMode": 420,
                        "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}}],
                "containers": [{"name": "c", "image": "web:1", "imagePullPolicy": "IfNotPresent",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "2m"}},
                    "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "periodSeconds": 5,
                        "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}}],
                "initContainers": [{"name": "i", "image": "web:1", "imagePullPolicy": "IfNotPresent",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "resources": {}}],
            })
        );
        spec["hostNetwork"] = true.into();
        pod_only(&mut spec);
        assert_eq!(spec["enableServiceLinks"], true);
        assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 80);
        assert_eq!(spec["containers"][0]["resources"]["requests"], json!({"cpu": "2m", "memory": "1Gi"}));
    }

    #[test]
    fn a_pod_as_a_whole_takes_the_sum_of_its_containers() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut spec =
            json!({"resources": {"limits": {"memory": "1Gi"}}, "containers": [container("100m"), container("1")]});
        pod_only(&mut spec);
        let want = json!({"limits": {"memory": "1Gi"}, "requests": {"cpu": "1100m", "memory": "1Gi"}});
        assert_eq!(spec["resources"], want);
    }
}
