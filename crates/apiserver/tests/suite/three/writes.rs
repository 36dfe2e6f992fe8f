//! Changes: `validation.md` §1, §5, §8 and §10.

use super::{MAPS, Three, names, none};
use kybern_testkit::objects;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const PODS: &str = "/api/v1/namespaces/default/pods";
const APPLY: &str = "application/apply-patch+yaml";

#[tokio::test]
async fn what_changes_nothing_writes_nothing() {
    for three in Three::both().await {
        let path = format!("{MAPS}/a");
        let revision = three.maps(&["a"]).await;
        let mut lines = three.watch(&format!("{MAPS}?watch=1&resourceVersion={revision}")).await;
        let stored = three.get(&path).await.json;
        assert_eq!(three.put(&path, &stored).await.revision(), revision);
        let mut bare = stored.clone();
        bare["metadata"] = json!({"name": "a"});
        assert_eq!(three.put(&path, &bare).await.revision(), revision, "system metadata need not be sent");
        assert_eq!(three.merge(&path, &json!({"data": {"key": "x"}})).await.revision(), revision);
        assert_eq!(three.merge(&path, &json!({})).await.revision(), revision);
        let patch = r#"[{"op":"replace","path":"/data/key","value":"x"}]"#;
        assert_eq!(three.ask("PATCH", &path, "application/json-patch+json", patch).await.revision(), revision);
        let strategic =
            three.ask("PATCH", &path, "application/strategic-merge-patch+json", r#"{"data":{"key":"x"}}"#).await;
        assert_eq!(strategic.revision(), revision);
        let apply = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {key: x}}";
        let applied = three.ask("PATCH", &format!("{path}?fieldManager=me"), APPLY, apply).await.revision();
        assert!(applied > revision, "who applies, owns");
        let again = three.ask("PATCH", &format!("{path}?fieldManager=me"), APPLY, apply).await;
        assert_eq!(again.revision(), applied, "and owns it already");
        let changed = three.merge(&path, &json!({"data": {"key": "y"}})).await.revision();
        for want in [applied, changed] {
            let event = lines.next().await.expect("an event");
            assert_eq!(event["object"]["metadata"]["resourceVersion"], want.to_string(), "nothing else happened");
        }
        three.end().await;
    }
}

#[tokio::test]
async fn a_stale_write_is_a_conflict_and_a_blind_one_is_not() {
    for three in Three::both().await {
        let path = format!("{MAPS}/a");
        let old = three.maps(&["a"]).await;
        three.merge(&path, &json!({"data": {"key": "2"}})).await;
        let mut stale = objects::config_map("a", "3");
        stale["metadata"]["resourceVersion"] = old.to_string().into();
        for refused in [three.put(&path, &stale).await, three.merge(&path, &stale).await] {
            assert_eq!(refused.verdict(), "409 Conflict");
            let text = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again";
            assert_eq!(refused.message(), text);
        }
        assert_eq!(three.put(&path, &objects::config_map("a", "4")).await.code, 200);
        let mut other = objects::config_map("a", "5");
        other["metadata"]["uid"] = "other".into();
        let refused = three.put(&path, &other).await;
        assert_eq!(refused.verdict(), "409 Conflict");
        assert!(refused.message().contains("Precondition failed: UID in precondition: other, UID in object meta: "));
        let mut created = objects::config_map("b", "1");
        created["metadata"]["resourceVersion"] = "5".into();
        let refused = three.post(MAPS, &created).await;
        assert_eq!(
            (refused.code, refused.message()),
            (500, "resourceVersion should not be set on objects to be created")
        );
        let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "h"}});
        let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
        assert_eq!(three.post(leases, &lease).await.code, 201);
        let blind = three.put(&format!("{leases}/l"), &lease).await;
        assert_eq!(blind.verdict(), "422 Invalid");
        assert!(blind.message().contains("metadata.resourceVersion: Invalid value"), "{}", blind.message());
        assert!(blind.message().contains("must be specified for an update"), "{}", blind.message());
        three.end().await;
    }
}

#[tokio::test]
async fn preconditions_name_what_is_deleted() {
    for three in Three::both().await {
        let path = format!("{MAPS}/a");
        let old = three.maps(&["a"]).await;
        let uid = three.get(&path).await.json["metadata"]["uid"].clone();
        three.merge(&path, &json!({"data": {"key": "2"}})).await;
        for (wrong, word) in [
            (json!({"uid": "other"}), "UID in precondition: other"),
            (json!({"resourceVersion": old.to_string()}), "ResourceVersion in precondition: "),
        ] {
            let refused = three.delete(&path, &json!({"preconditions": wrong})).await;
            assert_eq!(refused.verdict(), "409 Conflict");
            assert!(refused.message().contains(word), "{}", refused.message());
        }
        let now = three.get(&path).await.revision().to_string();
        let gone = three.delete(&path, &json!({"preconditions": {"uid": uid, "resourceVersion": now}})).await;
        assert_eq!((gone.code, &gone.json["status"]), (200, &json!("Success")));
        assert_eq!(gone.json["details"], json!({"name": "a", "kind": "configmaps", "uid": uid}));
        assert_eq!(three.get(&path).await.verdict(), "404 NotFound");
        assert_eq!(three.delete(&path, &none()).await.verdict(), "404 NotFound");
        three.end().await;
    }
}

#[tokio::test]
async fn a_dry_run_answers_and_leaves_nothing() {
    for three in Three::both().await {
        let created = three.post(&format!("{MAPS}?dryRun=All"), &objects::config_map("dry", "1")).await;
        assert_eq!(created.code, 201);
        let metadata = &created.json["metadata"];
        assert!(metadata["uid"].is_string() && metadata["creationTimestamp"].is_string(), "{metadata}");
        assert!(metadata["resourceVersion"].is_null());
        for _ in 0..3 {
            assert_eq!(three.get(&format!("{MAPS}/dry")).await.verdict(), "404 NotFound");
        }
        let revision = three.maps(&["kept"]).await;
        let path = format!("{MAPS}/kept");
        let dry = format!("{path}?dryRun=All");
        assert_eq!(three.put(&dry, &objects::config_map("kept", "2")).await.json["data"]["key"], "2");
        assert_eq!(three.merge(&dry, &json!({"data": {"key": "3"}})).await.json["data"]["key"], "3");
        let apply = "{apiVersion: v1, kind: ConfigMap, metadata: {name: new}, data: {key: x}}";
        assert_eq!(three.ask("PATCH", &format!("{MAPS}/new?dryRun=All&fieldManager=me"), APPLY, apply).await.code, 201);
        assert_eq!(three.delete(&dry, &none()).await.code, 200);
        assert_eq!(three.delete(&path, &json!({"dryRun": ["All"]})).await.code, 200);
        assert_eq!(three.delete(&format!("{MAPS}?dryRun=All"), &none()).await.code, 200);
        let list = three.get(MAPS).await;
        assert_eq!(names(&list.json), ["kept"]);
        assert_eq!(list.json["items"][0]["metadata"]["resourceVersion"], revision.to_string());
        for wrong in ["dryRun=Some", "dryRun=All&dryRun=None"] {
            assert_eq!(
                three.post(&format!("{MAPS}?{wrong}"), &objects::config_map("x", "1")).await.verdict(),
                "422 Invalid"
            );
        }
        // Neither addresses nor ports nor quota are kept.
        let mut service = objects::service("s");
        service["spec"]["clusterIP"] = "10.43.7.7".into();
        assert_eq!(three.post(&format!("{SERVICES}?dryRun=All"), &service).await.code, 201);
        service["metadata"]["name"] = "t".into();
        assert_eq!(three.post(SERVICES, &service).await.code, 201, "the address is free");
        three.end().await;
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored_told_or_refused_as_asked() {
    let three = Three::start().await;
    let body =
        |name: &str| format!(r#"{{"metadata":{{"name":"{name}"}},"data":{{"a":"1","a":"2"}},"dta":{{}},"spec":1}}"#);
    let json = "application/json";
    let quiet = three.ask("POST", &format!("{MAPS}?fieldValidation=Ignore"), json, body("quiet")).await;
    assert_eq!((quiet.code, quiet.warnings()), (201, vec![]));
    assert_eq!((&quiet.json["data"], &quiet.json["dta"]), (&json!({"a": "2"}), &Value::Null));
    for (name, query) in [("told", ""), ("warned", "?fieldValidation=Warn")] {
        let told = three.ask("POST", &format!("{MAPS}{query}"), json, body(name)).await;
        assert_eq!(told.code, 201);
        let mut warnings = told.warnings();
        warnings.sort_unstable();
        let wanted = [
            r#"299 - "duplicate field \"data.a\"""#,
            r#"299 - "unknown field \"dta\"""#,
            r#"299 - "unknown field \"spec\"""#,
        ];
        assert_eq!(warnings, wanted, "{query}");
    }
    let strict = three.ask("POST", &format!("{MAPS}?fieldValidation=Strict"), json, body("strict")).await;
    assert_eq!(strict.verdict(), "400 BadRequest");
    for part in [r#"strict decoding error: "#, r#"unknown field "dta""#, r#"duplicate field "data.a""#] {
        assert!(strict.message().contains(part), "{}", strict.message());
    }
    assert_eq!(three.get(&format!("{MAPS}/strict")).await.code, 404);
    let path = format!("{MAPS}/quiet?fieldValidation=Strict");
    let put = three.ask("PUT", &path, json, body("quiet")).await;
    assert_eq!(put.verdict(), "400 BadRequest");
    let patch = three.merge(&path, &json!({"dta": {}})).await;
    assert_eq!(patch.verdict(), "422 Invalid");
    assert_eq!(patch.json["details"]["causes"][0]["field"], "patch");
    let apply = "{apiVersion: v1, kind: ConfigMap, metadata: {name: quiet}, dta: {}}";
    let applied = three.ask("PATCH", &format!("{path}&fieldManager=me"), APPLY, apply).await;
    assert_eq!(applied.verdict(), "400 BadRequest");
    assert!(applied.message().contains("error strict decoding patch"), "{}", applied.message());
    assert_eq!(
        three.ask("POST", &format!("{MAPS}?fieldValidation=Harsh"), json, body("x")).await.verdict(),
        "422 Invalid"
    );
    three.end().await;
}

#[tokio::test]
async fn a_deletion_waits_for_finalizers_and_grace() {
    for three in Three::both().await {
        let mut map = objects::config_map("held", "1");
        map["metadata"]["finalizers"] = json!(["example.com/hold"]);
        assert_eq!(three.post(MAPS, &map).await.code, 201);
        let path = format!("{MAPS}/held");
        let lingering = three.delete(&path, &none()).await;
        assert_eq!((lingering.code, &lingering.json["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(0)));
        let more =
            three.merge(&path, &json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}})).await;
        assert_eq!(more.verdict(), "422 Invalid", "none is added any more");
        assert_eq!(three.merge(&path, &json!({"metadata": {"labels": {"a": "b"}}})).await.code, 200);
        assert_eq!(three.merge(&path, &json!({"metadata": {"finalizers": null}})).await.code, 200);
        assert_eq!(three.get(&path).await.code, 404);

        let mut pod = objects::pod("slow");
        pod["spec"]["nodeName"] = "n".into();
        pod["spec"]["terminationGracePeriodSeconds"] = 20.into();
        assert_eq!(three.post(PODS, &pod).await.code, 201);
        let path = format!("{PODS}/slow");
        let asked = three.delete(&path, &none()).await;
        let metadata = &asked.json["metadata"];
        assert_eq!((&metadata["deletionGracePeriodSeconds"], &metadata["generation"]), (&json!(20), &json!(2)));
        let longer = three.delete(&path, &json!({"gracePeriodSeconds": 60})).await;
        assert_eq!(longer.json["metadata"]["deletionGracePeriodSeconds"], 20, "it only shortens");
        let shorter = three.delete(&path, &json!({"gracePeriodSeconds": 5})).await;
        assert_eq!(shorter.json["metadata"]["deletionGracePeriodSeconds"], 5);
        assert_eq!(three.delete(&path, &json!({"gracePeriodSeconds": 0})).await.code, 200);
        assert_eq!(three.get(&path).await.code, 404);
        three.end().await;
    }
}

#[tokio::test]
async fn a_collection_is_deleted_by_what_it_selects() {
    let three = Three::start().await;
    three.maps(&["a", "b", "c"]).await;
    three.merge(&format!("{MAPS}/b"), &json!({"metadata": {"labels": {"app": "web"}}})).await;
    let deleted = three.delete(&format!("{MAPS}?labelSelector=app%3Dweb"), &none()).await;
    assert_eq!((deleted.code, names(&deleted.json)), (200, vec!["b".to_owned()]));
    assert_eq!(names(&three.get(MAPS).await.json), ["a", "c"]);
    assert_eq!(three.delete("/api/v1/namespaces", &none()).await.verdict(), "405 MethodNotAllowed");
    three.end().await;
}

#[tokio::test]
async fn names_are_generated_and_a_put_creates_where_that_is_the_custom() {
    let three = Three::start().await;
    let generated = json!({"metadata": {"generateName": "web-"}});
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let made = three.post(MAPS, &generated).await;
        let name = made.json["metadata"]["name"].as_str().expect("a name").to_owned();
        let tail = name.strip_prefix("web-").expect("its prefix");
        assert!(tail.len() == 5 && tail.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)), "{name}");
        assert_eq!(three.get(&format!("{MAPS}/{name}")).await.code, 200);
        seen.insert(name);
    }
    assert_eq!(seen.len(), 6);
    let taken = three.post(MAPS, &json!({"metadata": {"name": seen.first()}})).await;
    assert_eq!(taken.verdict(), "409 AlreadyExists");
    assert!(taken.message().ends_with("already exists"), "{}", taken.message());
    assert_eq!(three.put(&format!("{MAPS}/new"), &objects::config_map("new", "1")).await.code, 404);
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}});
    let ranges = "/api/v1/namespaces/default/limitranges";
    assert_eq!(three.put(&format!("{ranges}/l"), &range).await.code, 201);
    assert_eq!(three.put(&format!("{ranges}/l"), &range).await.code, 200);
    three.end().await;
}
