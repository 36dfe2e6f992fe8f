//! List, watch, patch, exec and apply with the `kube` crate; one `ok` line for each.

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt, discovery};
use serde_json::json;
use tokio::io::AsyncReadExt;

struct Test {
    client: Client,
    namespace: String,
    pod: String,
    maps: Api<ConfigMap>,
}

fn map(name: &str, value: &str) -> ConfigMap {
    let tree = json!({"metadata": {"name": name, "labels": {"app": "kube"}}, "data": {"key": value}});
    serde_json::from_value(tree).expect("a config map")
}

/// The code of a refusal.
fn code<T>(result: kube::Result<T>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        _ => 0,
    }
}

impl Test {
    async fn list(&self) -> Result<()> {
        for name in ["a", "b", "c"] {
            self.maps.create(&PostParams::default(), &map(name, name)).await?;
        }
        let all = self.maps.list(&ListParams::default().labels("app=kube")).await?;
        ensure!(all.iter().map(ResourceExt::name_any).collect::<Vec<_>>() == ["a", "b", "c"]);
        let page = self.maps.list(&ListParams::default().labels("app=kube").limit(2)).await?;
        let next = page.metadata.continue_.clone().context("a second page")?;
        let rest = self.maps.list(&ListParams::default().labels("app=kube").limit(2).continue_token(&next)).await?;
        ensure!(page.items.len() == 2 && rest.items.len() == 1);
        ensure!(page.metadata.resource_version == rest.metadata.resource_version);
        let metadata = self.maps.list_metadata(&ListParams::default().labels("app=kube")).await?;
        ensure!(metadata.items.len() == 3, "as PartialObjectMetadata");
        ensure!(code(self.maps.get("missing").await) == 404);
        ensure!(code(self.maps.create(&PostParams::default(), &map("a", "x")).await) == 409);
        ensure!(code(self.maps.create(&PostParams::default(), &map("A", "x")).await) == 422);
        let found = discovery::group(&self.client, "apps").await?;
        ensure!(found.recommended_kind("Deployment").is_some());
        Ok(())
    }

    async fn watch(&self) -> Result<()> {
        let from = self.maps.list(&ListParams::default()).await?.metadata.resource_version.context("a revision")?;
        let mut events = self.maps.watch(&WatchParams::default().timeout(30), &from).await?.boxed();
        self.maps.create(&PostParams::default(), &map("seen", "1")).await?;
        self.maps.patch("seen", &PatchParams::default(), &Patch::Merge(json!({"data": {"key": "2"}}))).await?;
        self.maps.delete("seen", &DeleteParams::default()).await?;
        for want in ["added", "modified", "deleted"] {
            let told = match events.try_next().await?.context("the stream ended")? {
                WatchEvent::Added(o) => ("added", o.name_any()),
                WatchEvent::Modified(o) => ("modified", o.name_any()),
                WatchEvent::Deleted(o) => ("deleted", o.name_any()),
                other => bail!("{other:?}"),
            };
            ensure!(told == (want, "seen".to_owned()), "{told:?}");
        }
        // The runtime's own: a list in a stream, then what follows.
        for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
            let mut objects = watcher(self.maps.clone(), config.labels("app=kube")).applied_objects().boxed();
            let mut names = Vec::new();
            for _ in 0..3 {
                names.push(objects.try_next().await?.context("an object")?.name_any());
            }
            names.sort();
            ensure!(names == ["a", "b", "c"], "{names:?}");
        }
        Ok(())
    }

    async fn patch(&self) -> Result<()> {
        let none = PatchParams::default();
        let merged = self.maps.patch("a", &none, &Patch::Merge(json!({"data": {"more": "x"}}))).await?;
        ensure!(merged.data.context("data")?.len() == 2);
        let remove: json_patch::Patch = serde_json::from_value(json!([{"op": "remove", "path": "/data/more"}]))?;
        let removed = self.maps.patch("a", &none, &Patch::Json::<()>(remove)).await?;
        ensure!(removed.data.context("data")?.len() == 1);
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "kube"},
            "spec": {
                "replicas": 0, "selector": {"matchLabels": {"app": "d"}},
                "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [
                    {"name": "a", "image": "x:1"}, {"name": "b", "image": "y:1"},
                ]}},
            },
        }))?;
        deployments.create(&PostParams::default(), &deployment).await?;
        let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "y:2"}]}}}});
        let patched = deployments.patch("kube", &none, &Patch::Strategic(strategic)).await?;
        let containers = patched.spec.and_then(|s| s.template.spec).context("a pod spec")?.containers;
        let images: Vec<_> = containers.into_iter().filter_map(|c| c.image).collect();
        ensure!(images == ["x:1", "y:2"], "{images:?}");
        let mut scale = deployments.get_scale("kube").await?;
        scale.spec.get_or_insert_default().replicas = Some(0);
        // The controller may write the Deployment's status in between.
        scale.metadata.resource_version = None;
        deployments.replace_scale("kube", &PostParams::default(), &scale).await?;
        Ok(())
    }

    async fn apply(&self) -> Result<()> {
        let body = |value: &str| {
            let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"key": value}});
            Patch::Apply(tree)
        };
        self.maps.patch("applied", &PatchParams::apply("first"), &body("1")).await?;
        match self.maps.patch("applied", &PatchParams::apply("second"), &body("2")).await {
            Err(kube::Error::Api(status)) => {
                ensure!(status.code == 409 && status.message.contains("conflict with \"first\""), "{status:?}");
            }
            other => bail!("no conflict: {other:?}"),
        }
        self.maps.patch("applied", &PatchParams::apply("second").force(), &body("2")).await?;
        let (resource, _) =
            discovery::pinned_kind(&self.client, &kube::core::GroupVersionKind::gvk("", "v1", "ConfigMap")).await?;
        let dynamic: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let read = dynamic.get("applied").await?;
        ensure!(read.data["data"]["key"] == "2");
        ensure!(read.managed_fields().iter().any(|m| m.manager.as_deref() == Some("second")));
        Ok(())
    }

    async fn exec(&self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut process =
            pods.exec(&self.pod, ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], &AttachParams::default()).await?;
        let (mut out, mut err) = (String::new(), String::new());
        process.stdout().context("stdout")?.read_to_string(&mut out).await?;
        process.stderr().context("stderr")?.read_to_string(&mut err).await?;
        let status = process.take_status().context("a status")?.await.context("its end")?;
        ensure!((out.trim(), err.trim()) == ("out", "err"), "{out} {err}");
        ensure!(status.reason.as_deref() == Some("NonZeroExitCode"), "{status:?}");
        ensure!(pods.logs(&self.pod, &LogParams::default()).await?.contains("started"));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (namespace, pod) = (arguments.next().context("a namespace")?, arguments.next().context("a pod")?);
    let client = Client::try_default().await?;
    let maps = Api::namespaced(client.clone(), &namespace);
    let test = Test { client, namespace, pod, maps };
    test.list().await.context("list")?;
    println!("ok list");
    test.watch().await.context("watch")?;
    println!("ok watch");
    test.patch().await.context("patch")?;
    println!("ok patch");
    test.apply().await.context("apply")?;
    println!("ok apply");
    test.exec().await.context("exec")?;
    println!("ok exec");
    Ok(())
}
