//! LimitRanger.

use crate::world::{Call, World};
use serde_json::{Value, json};

fn world(limits: Value) -> World {
    let mut world = World::new();
    world.put("", "limitranges", "ns", "bounds", json!({ "spec": { "limits": limits } }));
    world
}

fn pod(containers: Value) -> Value {
    json!({ "metadata": { "name": "x" }, "spec": { "automountServiceAccountToken": false, "containers": containers } })
}

#[test]
fn containers_get_the_defaults_they_leave_open() {
    let world = world(json!([{
        "type": "Container", "default": { "cpu": "300m", "memory": "200Mi" }, "defaultRequest": { "cpu": "100m" },
    }]));
    let own = json!({ "name": "b", "resources": { "limits": { "cpu": "1" }, "requests": { "cpu": "500m" } } });
    let stored = Call::default().send(&world, pod(json!([{ "name": "a" }, own]))).expect("admitted");
    let resources = |index: usize| stored["spec"]["containers"][index]["resources"].clone();
    assert_eq!(resources(0), json!({ "requests": { "cpu": "100m" }, "limits": { "cpu": "300m", "memory": "200Mi" } }));
    assert_eq!(resources(1), json!({ "requests": { "cpu": "500m" }, "limits": { "cpu": "1", "memory": "200Mi" } }));
    assert_eq!(
        stored["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; memory limit for container b"
    );
    let elsewhere = Call { namespace: "default", ..Call::default() };
    let stored = elsewhere.send(&world, pod(json!([{ "name": "a" }]))).expect("admitted");
    assert!(stored["metadata"]["annotations"].is_null() && stored["spec"]["containers"][0]["resources"].is_null());
}

/// Item of the LimitRange, resources of two containers, what the refusal says.
#[test]
fn nothing_leaves_the_bounds() {
    let cases = [
        (json!({ "type": "Container", "max": { "cpu": "1" } }), ["500m/1", "1/1"], None),
        (
            json!({ "type": "Container", "max": { "cpu": "1" } }),
            ["1/1", "1/1001m"],
            Some("maximum cpu usage per Container is 1, but limit is 1001m"),
        ),
        (
            json!({ "type": "Container", "max": { "cpu": "1" } }),
            ["1/1", "-/-"],
            Some("maximum cpu usage per Container is 1. No limit is specified"),
        ),
        (json!({ "type": "Container", "min": { "cpu": "100m" } }), ["100m/1", "0.1/-"], None),
        (
            json!({ "type": "Container", "min": { "cpu": "100m" } }),
            ["100m/1", "50m/1"],
            Some("minimum cpu usage per Container is 100m, but request is 50m"),
        ),
        (json!({ "type": "Container", "min": { "cpu": "100m" } }), ["100m/1", "-/1"], Some("No request is specified")),
        (json!({ "type": "Container", "maxLimitRequestRatio": { "cpu": "2" } }), ["500m/1", "1/2"], None),
        (
            json!({ "type": "Container", "maxLimitRequestRatio": { "cpu": "2" } }),
            ["500m/1", "100m/1"],
            Some("cpu max limit to request ratio per Container is 2, but provided ratio is 10.000000"),
        ),
        (json!({ "type": "Pod", "max": { "cpu": "2" } }), ["1/1", "1/1"], None),
        (
            json!({ "type": "Pod", "max": { "cpu": "2" } }),
            ["1/1", "1/1500m"],
            Some("maximum cpu usage per Pod is 2, but limit is 2500m"),
        ),
        (json!({ "type": "PersistentVolumeClaim", "max": { "cpu": "1" } }), ["1/9", "1/9"], None),
    ];
    for (limit, amounts, refusal) in cases {
        let container = |text: &str| {
            let (request, most) = text.split_once('/').expect("REQUEST/LIMIT");
            let amount = |text: &str| if text == "-" { json!({}) } else { json!({ "cpu": text }) };
            json!({ "name": "c", "resources": { "requests": amount(request), "limits": amount(most) } })
        };
        let world = world(json!([limit]));
        let outcome = Call::default().send(&world, pod(json!([container(amounts[0]), container(amounts[1])])));
        match (outcome, refusal) {
            (Ok(_), None) => {}
            (Err(status), Some(text)) => {
                assert!(status.code == 403 && status.message.contains(text), "{}", status.message)
            }
            (outcome, _) => panic!("{limit} {amounts:?}: {outcome:?}"),
        }
    }
}

#[test]
fn claims_have_bounds_too() {
    let world =
        world(json!([{ "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" }, "max": { "storage": "2Gi" } }]));
    let ask = |size: &str| {
        let call = Call { resource: "persistentvolumeclaims", ..Call::default() };
        call.send(&world, json!({ "spec": { "resources": { "requests": { "storage": size } } } })).map(|_| ())
    };
    assert_eq!(ask("1Gi"), Ok(()));
    assert_eq!(ask("2048Mi"), Ok(()));
    assert!(
        ask("1023Mi")
            .expect_err("too small")
            .message
            .contains("minimum storage usage per PersistentVolumeClaim is 1Gi")
    );
    assert!(
        ask("3Gi").expect_err("too large").message.contains("maximum storage usage per PersistentVolumeClaim is 2Gi")
    );
}

#[test]
fn what_a_quota_bounds_must_be_stated() {
    let mut world = World::new();
    world.put(
        "",
        "resourcequotas",
        "ns",
        "q",
        json!({ "metadata": { "name": "q" }, "spec": { "hard": { "limits.cpu": "1", "pods": "5" } } }),
    );
    let refused = Call::default().send(&world, pod(json!([{ "name": "c" }]))).expect_err("no limit is stated");
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (403, "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: c")
    );
    let stated = json!([{ "name": "c", "resources": { "limits": { "cpu": "9" } } }]);
    assert!(Call::default().send(&world, pod(stated)).is_ok(), "amounts are judged where they are taken");
    assert!(Call { namespace: "default", ..Call::default() }.send(&world, pod(json!([{ "name": "c" }]))).is_ok());
}
