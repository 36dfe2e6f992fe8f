use super::*;
use crate::plugins::Strategy;
use serde_json::json;

fn config(profile: Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": KIND, "profiles": [profile]})
}
fn profile(value: Value) -> ProfileSettings {
    Settings::read(&config(value)).expect("a good configuration").profiles.remove(0)
}
fn refusals(value: &Value) -> Vec<String> {
    let invalid = Settings::read(value).expect_err("a bad configuration");
    invalid.0.iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
}

#[test]
fn an_empty_profile_is_the_usual_one() {
    assert_eq!(profile(json!({})), ProfileSettings::usual("default-scheduler"));
    let bare = json!({"apiVersion": API_VERSION, "kind": KIND});
    assert_eq!(Settings::read(&bare).expect("settings"), Settings::default());
}

#[test]
fn plugins_are_turned_off_and_weighed_per_point_and_everywhere() {
    let p = profile(json!({
        "schedulerName": "packer",
        "plugins": {
            "multiPoint": {"disabled": [{"name": "ImageLocality"}], "enabled": [{"name": "TaintToleration", "weight": 7}]},
            "filter": {"disabled": [{"name": "NodePorts"}]},
            "score": {"disabled": [{"name": "PodTopologySpread"}], "enabled": [{"name": "NodeAffinity", "weight": 9}]},
            "postFilter": {"disabled": [{"name": "*"}]},
        },
    }));
    assert_eq!(p.name, "packer");
    assert!(!p.filters.contains(&"NodePorts") && p.filters.contains(&"PodTopologySpread"));
    assert_eq!(p.scores[0], ("NodeAffinity", 9), "what the point enables comes first");
    assert!(p.scores.contains(&("TaintToleration", 7)));
    assert!(!p.scores.iter().any(|(n, _)| ["ImageLocality", "PodTopologySpread"].contains(n)));
    assert!(!p.preempts);
}

#[test]
fn arguments_reach_their_plugins() {
    let p = profile(json!({"pluginConfig": [
        {"name": "NodeResourcesFit", "args": {"scoringStrategy": {
            "type": "RequestedToCapacityRatio",
            "resources": [{"name": "cpu", "weight": 3}],
            "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]},
        }}},
        {"name": "PodTopologySpread", "args": {"defaultingType": "List", "defaultConstraints": [
            {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]}},
        {"name": "DefaultPreemption", "args": {"minCandidateNodesAbsolute": 5}},
        {"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 40}},
        {"name": "VolumeBinding", "args": {"bindTimeoutSeconds": 3}},
    ]}));
    assert_eq!(p.args.fit.strategy, Strategy::Ratio(vec![(0, 0), (100, 100)]));
    assert_eq!(p.args.spread.as_ref().map(|s| s[0].max_skew), Some(2));
    assert_eq!((p.preemption.absolute, p.preemption.percentage), (5, 10));
    assert_eq!((p.args.affinity.hard_weight, p.bind_timeout), (40, Duration::from_secs(3)));
}

#[test]
fn mistakes_are_named_with_their_paths() {
    let bad = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1beta3", "kind": KIND, "podMaxBackoffSeconds": 0,
        "profiles": [{
            "schedulerNmae": "x", "percentageOfNodesToScore": 101,
            "plugins": {"score": {"enabled": [{"name": "Nothing"}]}},
            "pluginConfig": [
                {"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "Best"}}},
                {"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": "much"}},
                {"name": "Wrong"},
            ],
        }, {}],
        "extenders": [{"urlPrefix": "http://x"}],
    });
    let all = refusals(&bad);
    for (field, text) in [
        ("apiVersion", "Unsupported value"),
        ("podMaxBackoffSeconds", "must be greater than 0"),
        ("profiles[0].schedulerNmae", "unknown field"),
        ("profiles[0].percentageOfNodesToScore", "must be between 0 and 100"),
        ("profiles[0].plugins.score.enabled[0].name", "Not found"),
        ("profiles[0].pluginConfig[0].args.scoringStrategy.type", "Unsupported value: \"Best\""),
        ("profiles[0].pluginConfig[1].args.hardPodAffinityWeight", "must be an integer"),
        ("profiles[0].pluginConfig[2].name", "no such plugin takes arguments"),
        ("profiles[1].schedulerName", "Duplicate value"),
        ("extenders", "not supported"),
    ] {
        let found = all.iter().any(|line| line.starts_with(&format!("{field}: ")) && line.contains(text));
        assert!(found, "{field}: {text} is missing in {all:#?}");
    }
}
