//! The proxy follows the cluster: it listens while there is something to serve, and serves what is said.

use crate::support::{ask, certificate, dead, get, ingress, provider, secure};
use kybern_client::informer::Informer;
use kybern_client::memory::MemoryApi;
use kybern_client::transport::{MERGE_PATCH, Resource, Selection, Transport};
use kybern_client::write::{At, DeleteOptions, Writer};
use kybern_ingress::{Config, Ingress, Sources};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Cluster {
    writer: Writer,
    http: SocketAddr,
    https: SocketAddr,
    _guard: DropGuard,
}

fn resource(plural: &str) -> Resource {
    match plural {
        "ingresses" | "ingressclasses" => Resource::new("networking.k8s.io", "v1", plural),
        "endpointslices" => Resource::new("discovery.k8s.io", "v1", plural),
        _ => Resource::new("", "v1", plural),
    }
}

impl Cluster {
    /// A node with a proxy and one class.
    async fn start() -> Self {
        let transport: Arc<dyn Transport> = Arc::new(MemoryApi::default());
        let cancel = CancellationToken::new();
        let all = |plural| {
            Informer::start(transport.clone(), resource(plural), Selection::default(), None, cancel.child_token())
        };
        let (http, https) = (dead().await, dead().await);
        let ingress = Ingress {
            node: "n1".into(),
            config: Config { http, https },
            sources: Sources {
                own: transport.clone(),
                node: transport.clone(),
                nodes: all("nodes"),
                services: all("services"),
                slices: all("endpointslices"),
            },
            provider: provider(),
            metrics: Arc::default(),
        };
        tokio::spawn(ingress.run(cancel.clone()));
        let cluster = Self { writer: Writer::new(transport, "test", 0), http, https, _guard: cancel.drop_guard() };
        cluster.create("nodes", json!({ "metadata": { "name": "n1" } })).await;
        let class = json!({ "metadata": { "name": "kybern" }, "spec": { "controller": "kybern.io/ingress" } });
        cluster.create("ingressclasses", class).await;
        cluster
    }

    async fn create(&self, plural: &str, object: Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let at = At { resource: &resource(plural), namespace, name: "", subresource: "" };
        self.writer.create(at, &object).await.expect("create");
    }
    async fn patch(&self, plural: &str, namespace: &str, name: &str, patch: Value) {
        let at = At { resource: &resource(plural), namespace, name, subresource: "" };
        self.writer.patch(at, MERGE_PATCH, &patch).await.expect("patch");
    }
    async fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let at = At { resource: &resource(plural), namespace, name, subresource: "" };
        self.writer.delete(at, &DeleteOptions::default()).await.expect("delete");
    }
    async fn listens(&self) -> bool {
        TcpStream::connect(self.http).await.is_ok()
    }
    /// Waits for an answer of this status.
    async fn answers(&self, status: u16) {
        eventually(&format!("an answer of {status}"), async || {
            self.listens().await && ask(self.http, get("/")).await.status.as_u16() == status
        })
        .await;
    }
}

async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: never");
}

/// The Ingress of the other tests, of the class that there is.
fn served() -> Value {
    let mut tree = ingress(Value::Null, &[("/", "web")]);
    tree["spec"]["ingressClassName"] = "kybern".into();
    tree["spec"]["tls"] = json!([{ "hosts": ["a.example.com"], "secretName": "cert" }]);
    tree["metadata"]["annotations"] = json!({ "kybern.io/ssl-redirect": "false" });
    tree
}

#[tokio::test]
async fn it_listens_while_there_is_something_to_serve() {
    let cluster = Cluster::start().await;
    let mut other = served();
    other["metadata"]["name"] = "other".into();
    other["spec"]["ingressClassName"] = "nginx".into();
    cluster.create("ingresses", other).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!cluster.listens().await, "another controller's Ingress");
    cluster.create("ingresses", served()).await;
    // routed, but the service is not known
    cluster.answers(503).await;
    cluster.patch("ingresses", "n", "a", json!({ "spec": { "rules": [{ "host": "b.example.com" }] } })).await;
    cluster.answers(404).await;
    cluster.patch("nodes", "", "n1", json!({ "metadata": { "labels": { "kybern.io/ingress": "false" } } })).await;
    eventually("the node is switched off", async || !cluster.listens().await).await;
    cluster.patch("nodes", "", "n1", json!({ "metadata": { "labels": { "kybern.io/ingress": null } } })).await;
    cluster.answers(404).await;
    cluster.delete("ingresses", "n", "a").await;
    eventually("the last Ingress is gone", async || !cluster.listens().await).await;
}

#[tokio::test]
async fn endpoints_and_certificates_are_followed() {
    let cluster = Cluster::start().await;
    cluster.create("ingresses", served()).await;
    cluster.answers(503).await;
    let ports = json!([{ "name": "http", "port": 80, "protocol": "TCP" }]);
    let service = json!({ "metadata": { "name": "web", "namespace": "n" }, "spec": { "ports": ports } });
    cluster.create("services", service).await;
    let labels = json!({ "kubernetes.io/service-name": "web" });
    // an address that nothing can be sent to: that it was tried is what is seen
    let slice = json!({ "metadata": { "name": "web-1", "namespace": "n", "labels": labels }, "addressType": "IPv4",
        "endpoints": [{ "addresses": ["255.255.255.255"] }], "ports": [{ "name": "http", "port": 8080 }] });
    cluster.create("endpointslices", slice).await;
    cluster.answers(502).await;
    cluster.delete("endpointslices", "n", "web-1").await;
    cluster.answers(503).await;

    let ((old, old_der), (new, new_der)) = (certificate("a.example.com"), certificate("a.example.com"));
    cluster.create("secrets", old).await;
    let shown = async |der| secure(cluster.https, "a.example.com", der, b"h2").await.is_ok();
    eventually("the certificate is shown", async || shown(&old_der).await).await;
    cluster.patch("secrets", "n", "cert", json!({ "data": new["data"] })).await;
    eventually("the new certificate is shown", async || shown(&new_der).await).await;
    cluster.patch("secrets", "n", "cert", json!({ "data": { "tls.crt": "eA==" } })).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(shown(&new_der).await, "what cannot be used leaves the last good one");
    cluster.delete("secrets", "n", "cert").await;
    eventually("it is gone with its Secret", async || !shown(&new_der).await).await;
}
