//! Which fields a configuration has, and of what type they are: a misspelt field is refused, not ignored.

use kybern_api::kind::Causes;
use kybern_api::validate::Field;
use serde_json::Value;

/// The type of a field.
pub(super) enum Shape {
    Text,
    Number,
    Flag,
    /// A list of objects with these fields.
    List(&'static [(&'static str, Shape)]),
    /// A list of texts.
    Texts,
    /// An object with these fields.
    Object(&'static [(&'static str, Shape)]),
    /// Checked elsewhere.
    Any,
}

use Shape::{Any, Flag, List, Number, Object, Text, Texts};

const PLUGIN_SET: Shape = Object(&[
    ("enabled", List(&[("name", Text), ("weight", Number)])),
    ("disabled", List(&[("name", Text), ("weight", Number)])),
]);

const LEADER_ELECTION: &[(&str, Shape)] = &[
    ("leaderElect", Flag),
    ("leaseDuration", Text),
    ("renewDeadline", Text),
    ("retryPeriod", Text),
    ("resourceLock", Text),
    ("resourceName", Text),
    ("resourceNamespace", Text),
];

const CLIENT: &[(&str, Shape)] =
    &[("kubeconfig", Text), ("acceptContentTypes", Text), ("contentType", Text), ("qps", Any), ("burst", Number)];

const PROFILE: &[(&str, Shape)] = &[
    ("schedulerName", Text),
    ("percentageOfNodesToScore", Number),
    (
        "plugins",
        Object(&[
            ("multiPoint", PLUGIN_SET),
            ("preEnqueue", PLUGIN_SET),
            ("queueSort", PLUGIN_SET),
            ("preFilter", PLUGIN_SET),
            ("filter", PLUGIN_SET),
            ("postFilter", PLUGIN_SET),
            ("preScore", PLUGIN_SET),
            ("score", PLUGIN_SET),
            ("reserve", PLUGIN_SET),
            ("permit", PLUGIN_SET),
            ("preBind", PLUGIN_SET),
            ("bind", PLUGIN_SET),
            ("postBind", PLUGIN_SET),
        ]),
    ),
    ("pluginConfig", List(&[("name", Text), ("args", Any)])),
];

/// The whole. Leases, clients and parallelism are the server's own affair here; what is said about them
/// is checked for its form and has no effect.
pub(super) const CONFIGURATION: Shape = Object(&[
    ("apiVersion", Text),
    ("kind", Text),
    ("parallelism", Number),
    ("leaderElection", Object(LEADER_ELECTION)),
    ("clientConnection", Object(CLIENT)),
    ("enableProfiling", Flag),
    ("enableContentionProfiling", Flag),
    ("percentageOfNodesToScore", Number),
    ("podInitialBackoffSeconds", Number),
    ("podMaxBackoffSeconds", Number),
    ("profiles", List(PROFILE)),
    ("extenders", Any),
    ("delayCacheUntilActive", Flag),
]);

const RESOURCES: Shape = List(&[("name", Text), ("weight", Number)]);

/// The arguments of a plugin; None: it takes none.
pub(super) fn arguments(plugin: &str) -> Option<Shape> {
    Some(match plugin {
        "NodeResourcesFit" => Object(&[
            ("apiVersion", Text),
            ("kind", Text),
            ("ignoredResources", Texts),
            ("ignoredResourceGroups", Texts),
            (
                "scoringStrategy",
                Object(&[
                    ("type", Text),
                    ("resources", RESOURCES),
                    (
                        "requestedToCapacityRatio",
                        Object(&[("shape", List(&[("utilization", Number), ("score", Number)]))]),
                    ),
                ]),
            ),
        ]),
        "NodeResourcesBalancedAllocation" => Object(&[("apiVersion", Text), ("kind", Text), ("resources", RESOURCES)]),
        "InterPodAffinity" => Object(&[
            ("apiVersion", Text),
            ("kind", Text),
            ("hardPodAffinityWeight", Number),
            ("ignorePreferredTermsOfExistingPods", Flag),
        ]),
        "PodTopologySpread" => {
            Object(&[("apiVersion", Text), ("kind", Text), ("defaultConstraints", Any), ("defaultingType", Text)])
        }
        "NodeAffinity" => Object(&[("apiVersion", Text), ("kind", Text), ("addedAffinity", Any)]),
        "VolumeBinding" => {
            Object(&[("apiVersion", Text), ("kind", Text), ("bindTimeoutSeconds", Number), ("shape", Any)])
        }
        "DefaultPreemption" => Object(&[
            ("apiVersion", Text),
            ("kind", Text),
            ("minCandidateNodesPercentage", Number),
            ("minCandidateNodesAbsolute", Number),
        ]),
        _ => return None,
    })
}

/// Reports fields that there are not, and values of the wrong type.
pub(super) fn check(field: &Field<'_, '_>, shape: &Shape, out: &mut Causes) {
    if !field.present() {
        return;
    }
    let (fits, what) = match (shape, field.value) {
        (Any, _) => return,
        (Text, v) => (v.is_string(), "must be a string"),
        (Number, v) => (v.is_i64() || v.is_u64(), "must be an integer"),
        (Flag, v) => (v.is_boolean(), "must be true or false"),
        (List(_) | Texts, v) => (v.is_array(), "must be a list"),
        (Object(_), v) => (v.is_object(), "must be an object"),
    };
    if !fits {
        return field.invalid(what, out);
    }
    match shape {
        Object(fields) => check_fields(field, fields, out),
        List(fields) => {
            for item in field.items() {
                if item.value.is_object() {
                    check_fields(&item, fields, out);
                } else {
                    item.invalid("must be an object", out);
                }
            }
        }
        Texts => field.items().filter(|i| !i.value.is_string()).for_each(|i| i.invalid("must be a string", out)),
        Text | Number | Flag | Any => {}
    }
}

fn check_fields(field: &Field<'_, '_>, fields: &[(&str, Shape)], out: &mut Causes) {
    let Value::Object(given) = field.value else { return };
    for name in given.keys().filter(|n| !fields.iter().any(|(f, _)| f == n)) {
        field.field(name).forbidden("unknown field", out);
    }
    for (name, shape) in fields {
        check(&field.field(name), shape, out);
    }
}
