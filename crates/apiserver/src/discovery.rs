//! Discovery documents, legacy and aggregated: projections of the rows that are served.
//!
//! Every function takes the rows (built-in ones and those made by CustomResourceDefinitions); withheld
//! kinds are left out here.

use base64::Engine as _;
use kybern_api::kind::{KindDef, Served, Subresource, Support};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

/// Content type of aggregated documents.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Groups in the order Kubernetes lists them; others follow by name.
const GROUP_ORDER: &[&str] = &[
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
];

/// Does the Accept header ask for the aggregated form (before any plain JSON)?
pub fn wants_aggregated(accept: &str) -> bool {
    let parameters = ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"];
    let is_aggregated = |media: &str| {
        let mut parts = media.split(';').map(str::trim);
        parts.next() == Some("application/json") && parameters.iter().all(|p| parts.clone().any(|given| given == *p))
    };
    let is_plain = |media: &str| matches!(media.trim(), "application/json" | "*/*");
    accept.split(',').find(|media| is_aggregated(media) || is_plain(media)).is_some_and(is_aggregated)
}

/// The ETag of a discovery document: its quoted SHA-512.
pub fn etag(body: &[u8]) -> String {
    format!("\"{}\"", hex::encode_upper(Sha512::digest(body)))
}

/// `/api`. `address` is the host and port that clients outside pods should use.
pub fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`.
pub fn group_list(rows: &[&KindDef]) -> Value {
    let groups: Vec<Value> =
        groups(rows).iter().filter(|g| !g.is_empty()).filter_map(|g| group_body(rows, g)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`; None when the group is not served.
pub fn group(rows: &[&KindDef], group: &str) -> Option<Value> {
    let mut body = group_body(rows, group)?;
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Some(body)
}

/// `/api/v1` and `/apis/GROUP/VERSION`; None when it is not served.
pub fn resource_list(rows: &[&KindDef], group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for (row, served) in in_version(rows, group, version) {
        resources.push(resource(row));
        resources.extend(row.subresources.iter().map(|s| subresource(row, served, s)));
    }
    if resources.is_empty() {
        return None;
    }
    let mut body =
        json!({"kind": "APIResourceList", "groupVersion": group_version(group, version), "resources": resources});
    if !group.is_empty() {
        body["apiVersion"] = "v1".into();
    }
    Some(body)
}

/// Aggregated discovery: of `/api` when `core`, else of `/apis`.
pub fn aggregated(rows: &[&KindDef], core: bool) -> Value {
    let items: Vec<Value> = groups(rows)
        .into_iter()
        .filter(|group| group.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> =
                versions(rows, group).into_iter().map(|v| aggregated_version(rows, group, v)).collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

/// Every group and version that is served, in discovery order.
pub fn group_versions<'a>(rows: &[&'a KindDef]) -> Vec<(&'a str, &'a str)> {
    groups(rows).into_iter().flat_map(|g| versions(rows, g).into_iter().map(move |v| (g, v))).collect()
}

/// `v1`, `apps/v1`.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Rows served in one version, by resource name.
pub fn in_version<'a>(rows: &[&'a KindDef], group: &str, version: &str) -> Vec<(&'a KindDef, &'a Served)> {
    let mut found: Vec<_> = served(rows, group).filter_map(|row| Some((row, row.version(version)?))).collect();
    found.sort_by(|a, b| a.0.plural.cmp(&b.0.plural));
    found
}

fn served<'a>(rows: &[&'a KindDef], group: &str) -> impl Iterator<Item = &'a KindDef> {
    rows.iter().copied().filter(move |row| row.group == group && row.support != Support::Withheld)
}

fn groups<'a>(rows: &[&'a KindDef]) -> Vec<&'a str> {
    let mut groups: Vec<&str> =
        rows.iter().filter(|r| r.support != Support::Withheld).map(|r| r.group.as_str()).collect();
    groups.sort_unstable_by_key(|g| (GROUP_ORDER.iter().position(|o| o == g).unwrap_or(GROUP_ORDER.len()), *g));
    groups.dedup();
    groups
}

/// Versions of a group, preferred first: as its rows list them.
fn versions<'a>(rows: &[&'a KindDef], group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> = Vec::new();
    let mut by_choice: Vec<&KindDef> = served(rows, group).collect();
    // A row with more versions says more about their order.
    by_choice.sort_by_key(|row| std::cmp::Reverse(row.served.len()));
    for served in by_choice.iter().flat_map(|row| &row.served) {
        if !versions.contains(&served.version.as_str()) {
            versions.push(&served.version);
        }
    }
    versions
}

fn group_body(rows: &[&KindDef], group: &str) -> Option<Value> {
    let versions: Vec<Value> = versions(rows, group)
        .into_iter()
        .map(|v| json!({"groupVersion": group_version(group, v), "version": v}))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({"name": group, "versions": versions, "preferredVersion": preferred}))
}

fn sorted<'a>(verbs: impl IntoIterator<Item = &'a smol_str::SmolStr>) -> Vec<&'a str> {
    let mut verbs: Vec<&str> = verbs.into_iter().map(|v| v.as_str()).collect();
    verbs.sort_unstable();
    verbs
}

fn resource(row: &KindDef) -> Value {
    let mut body = json!({
        "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced(), "kind": row.kind,
        "verbs": sorted(&row.verbs),
    });
    names(&mut body, row);
    if row.verbs.iter().any(|v| v == "get") {
        body["storageVersionHash"] = storage_version_hash(row).into();
    }
    body
}

fn names(body: &mut Value, row: &KindDef) {
    if !row.short_names.is_empty() {
        body["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        body["categories"] = json!(row.categories);
    }
}

fn subresource(row: &KindDef, served: &Served, sub: &Subresource) -> Value {
    let mut body = json!({
        "name": format!("{}/{}", row.plural, sub.name), "singularName": "", "namespaced": row.namespaced(),
        "kind": sub.kind, "verbs": sorted(&sub.verbs),
    });
    if sub.group != row.group || (sub.version != served.version && sub.kind != row.kind) {
        body["group"] = sub.group.as_str().into();
        body["version"] = sub.version.as_str().into();
    }
    body
}

fn aggregated_version(rows: &[&KindDef], group: &str, version: &str) -> Value {
    let resources: Vec<Value> =
        in_version(rows, group, version).into_iter().map(|(row, served)| aggregated_resource(row, served)).collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}

fn aggregated_resource(row: &KindDef, served: &Served) -> Value {
    let mut body = json!({
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": served.version, "kind": row.kind},
        "scope": if row.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": sorted(&row.verbs),
    });
    names(&mut body, row);
    let subresources: Vec<Value> = row
        .subresources
        .iter()
        .map(|sub| {
            // A subresource of the row's own kind is served in the version of the path.
            let version = if sub.kind == row.kind { &served.version } else { &sub.version };
            json!({
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": version, "kind": sub.kind},
                "verbs": sorted(&sub.verbs),
            })
        })
        .collect();
    if !subresources.is_empty() {
        body["subresources"] = subresources.into();
    }
    body
}

/// Tells clients when the stored form of a kind changes: 8 bytes of SHA-256 in base64.
fn storage_version_hash(row: &KindDef) -> String {
    let group = row.storage.as_ref().map_or(&row.group, |(group, _)| group);
    let text = format!("{group}/{}/{}", row.stored_version().version, row.kind);
    base64::engine::general_purpose::STANDARD.encode(&Sha256::digest(text)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<&'static KindDef> {
        kybern_api::kinds::table().iter().collect()
    }

    #[test]
    fn the_core_version_lists_pods_and_their_subresources() {
        let body = resource_list(&rows(), "", "v1").unwrap();
        assert_eq!(body.get("apiVersion"), None);
        let find = |name: &str| body["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap();
        let pods = find("pods");
        assert_eq!(pods["storageVersionHash"], "xPOwRZ+Yhw8=");
        assert_eq!(pods["verbs"][0], "create");
        assert_eq!((&pods["shortNames"][0], &pods["categories"][0]), (&"po".into(), &"all".into()));
        let eviction = find("pods/eviction");
        assert_eq!((&eviction["group"], &eviction["kind"]), (&"policy".into(), &"Eviction".into()));
        assert_eq!(find("pods/status").get("group"), None);
        assert_eq!(resource_list(&rows(), "apps", "v9"), None);
    }

    #[test]
    fn groups_come_in_order_and_prefer_their_first_version() {
        let list = group_list(&rows());
        let names: Vec<&str> = list["groups"].as_array().unwrap().iter().filter_map(|g| g["name"].as_str()).collect();
        let position = |name: &str| names.iter().position(|n| *n == name);
        assert!(position("apps") < position("batch") && position("batch") < position("storage.k8s.io"), "{names:?}");
        let autoscaling = group(&rows(), "autoscaling").unwrap();
        assert_eq!(autoscaling["preferredVersion"]["groupVersion"], "autoscaling/v2");
        assert_eq!(autoscaling["versions"].as_array().map(Vec::len), Some(2));
        assert_eq!(group(&rows(), "nonsense.io"), None);
    }

    #[test]
    fn aggregated_documents_split_core_from_groups() {
        let core = aggregated(&rows(), true);
        assert_eq!(core["items"].as_array().map(Vec::len), Some(1));
        let pods = &core["items"][0]["versions"][0]["resources"];
        let pods = pods.as_array().unwrap().iter().find(|r| r["resource"] == "pods").unwrap();
        assert_eq!(pods["scope"], "Namespaced");
        assert!(pods["subresources"].as_array().unwrap().iter().any(|s| s["responseKind"]["kind"] == "PodExecOptions"));
        assert!(aggregated(&rows(), false)["items"].as_array().unwrap().iter().all(|i| i["metadata"]["name"] != ""));
    }

    #[test]
    fn accept_headers_choose_the_form() {
        assert!(wants_aggregated(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
        ));
        assert!(wants_aggregated(
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList, application/json; g=apidiscovery.k8s.io; v=v2; as=APIGroupDiscoveryList"
        ));
        assert!(!wants_aggregated("application/json"));
        assert!(!wants_aggregated(
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
        ));
        assert!(!wants_aggregated(""));
    }
}
