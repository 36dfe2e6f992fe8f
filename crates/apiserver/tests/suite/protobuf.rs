//! Bodies and answers in Kubernetes' protobuf.

use crate::cases::{MAPS, maps, none, verdict};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use kybern_api::attributes::UserInfo;
use kybern_api::codec::{self, BodyType, Expected, FieldValidation};
use kybern_api::seam::Lister;
use kybern_authn::{Authenticator, Credentials, Outcome};
use kybern_testkit::{Builder, World, objects};
use serde_json::{Value, json};
use std::sync::Arc;

fn request(method: &str, path: &str, header: (&str, &str), body: Vec<u8>) -> http::Request<Bytes> {
    let request = http::Request::builder().method(method).uri(path).header("authorization", "Bearer admin");
    request.header(header.0, header.1).body(body.into()).expect("a request")
}

fn map(name: &str) -> Value {
    let mut map = objects::config_map(name, "1");
    (map["kind"], map["apiVersion"]) = (json!("ConfigMap"), json!("v1"));
    map
}

fn encode(tree: &Value) -> Vec<u8> {
    codec::to_protobuf(tree).expect("it fits").expect("a message")
}

fn decode(kind: &str, bytes: &[u8]) -> Value {
    let definition = format!("io.k8s.api.core.v1.{kind}");
    let expected = Expected { definition: &definition, api_version: Some("v1"), kind };
    codec::decode_definition(BodyType::Protobuf, bytes, expected, FieldValidation::Strict).expect("a body").tree
}

#[tokio::test]
async fn protobuf_bodies_are_read_like_json() {
    let world = World::start().await;
    let send = async |method: &str, path: &str, body: Vec<u8>| {
        world.http(request(method, path, ("content-type", codec::PROTOBUF), body)).await
    };
    let map = map("a");
    let created = send("POST", MAPS, encode(&map)).await;
    assert_eq!((created.code, &created.json()["data"]), (201, &map["data"]), "{}", created.text());
    assert_eq!(verdict(&send("POST", "/api/v1/namespaces/default/secrets", encode(&map)).await), "400 BadRequest");
    assert_eq!(verdict(&send("POST", MAPS, b"{}".to_vec()).await), "400 BadRequest");

    // DeleteOptions whose preconditions (2) name another uid (1).
    let options = b"k8s\0\x0a\x13\x0a\x02v1\x12\x0dDeleteOptions\x12\x07\x12\x05\x0a\x03not".to_vec();
    let path = format!("{MAPS}/a");
    assert_eq!(verdict(&send("DELETE", &path, options).await), "409 Conflict");
    assert_eq!(send("DELETE", &path, Vec::new()).await.code, 200);
}

#[tokio::test]
async fn answers_are_protobuf_for_those_who_read_nothing_else() {
    let world = World::start().await;
    maps(&world, &["a", "b"]).await;
    let get = async |path: &str, accept: &str| world.http(request("GET", path, ("accept", accept), Vec::new())).await;
    let path = format!("{MAPS}/a");

    let both = get(&path, "application/vnd.kubernetes.protobuf,application/json").await;
    assert_eq!(both.headers["content-type"], "application/json");
    let only = get(&path, codec::PROTOBUF).await;
    assert_eq!(only.headers["content-type"], codec::PROTOBUF);
    let mut json = world.call("GET", &path, &none()).await.json();
    json.as_object_mut().expect("an object").retain(|key, _| key != "kind" && key != "apiVersion");
    assert_eq!(decode("ConfigMap", &only.bytes), json);

    let list = decode("ConfigMapList", &get(MAPS, codec::PROTOBUF).await.bytes);
    assert_eq!(crate::cases::names(&list), ["a", "b"]);
    let missing = get(&format!("{MAPS}/c"), codec::PROTOBUF).await;
    assert_eq!((missing.code, missing.bytes.starts_with(b"k8s\0")), (404, true));
}

#[tokio::test]
async fn events_come_in_frames() {
    let world = World::start().await;
    maps(&world, &["a"]).await;
    let watch = request("GET", &format!("{MAPS}?watch=true"), ("accept", codec::PROTOBUF), Vec::new());
    let answer = world.server.handle(watch.map(Full::new)).await;
    assert_eq!(answer.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let piece = answer.into_body().frame().await.expect("a piece").expect("no errors").into_data().expect("data");
    let (length, frame) = piece.split_first_chunk::<4>().expect("a length");
    assert_eq!(u32::from_be_bytes(*length) as usize, frame.len());
    let object = frame.windows(4).position(|w| w == b"k8s\0").map(|at| &frame[at..]).expect("an object");
    assert_eq!(decode("ConfigMap", object)["metadata"]["name"], "a");
    assert!(frame.starts_with(b"\x0a\x05ADDED"));
}

/// kubectl's own commands for making things; all of them send protobuf.
const TYPED: &[&str] = &[
    "create namespace made",
    "create deployment web --image=x --replicas=2 --port=80",
    "create configmap settings --from-literal=a=1",
    "create secret generic hidden --from-literal=a=1",
    "create serviceaccount robot",
    "create service clusterip web --tcp=80:http",
    "create service nodeport outside --tcp=80:8080",
    "create job once --image=x",
    "create cronjob often --image=x --schedule=*/5_*_*_*_*",
    "create role reader --verb=get,list --resource=pods",
    "create rolebinding readers --role=reader --serviceaccount=default:robot",
    "create clusterrole seer --verb=get --non-resource-url=/healthz",
    "create clusterrolebinding seers --clusterrole=seer --group=some",
    "create quota small --hard=cpu=1500m,pods=9",
    "create poddisruptionbudget careful --selector=app=web --min-available=50%",
    "create priorityclass high --value=1000",
    "create ingress entry --rule=a.b/c*=web:80",
    "auth can-i get pods",
    "scale deployment web --replicas=3",
    "rollout restart deployment web",
    "delete deployment web --wait=false --cascade=orphan",
];

/// kubectl sends no token over plain HTTP.
struct Administrator;

impl Authenticator for Administrator {
    fn authenticate(&self, _: &Credentials<'_>, _: &dyn Lister) -> Outcome {
        let groups = vec!["system:masters".into(), "system:authenticated".into()];
        Outcome::Known(UserInfo { name: "admin".into(), groups, ..UserInfo::default() })
    }
}

/// Real kubectl against a served world.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl on the machine"]
async fn kubectl_makes_things() {
    let world = Builder::default().authenticator(Arc::new(Administrator)).start().await;
    let served = crate::sockets::serve(&world).await;
    for command in TYPED {
        let mut kubectl = tokio::process::Command::new("kubectl");
        kubectl.env("KUBECONFIG", "/dev/null").arg(format!("--server=http://{}", served.address));
        kubectl.args(command.split(' ').map(|word| word.replace('_', " ")));
        let output = kubectl.output().await.expect("kubectl");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let path = "/apis/batch/v1/namespaces/default/cronjobs/often";
    assert_eq!(world.call("GET", path, &none()).await.json()["spec"]["schedule"], "*/5 * * * *");
    served.end().await;
}
