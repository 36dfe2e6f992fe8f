//! What the nodes write for their pods.

use super::CONCURRENT;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Container, Pod};
use kybern_api::error::{Reason, Status};
use kybern_api::object::Object;
use kybern_api::seam::{Clock, SystemClock};
use kybern_client::store::Name;
use kybern_client::transport::{MERGE_PATCH, Resource};
use kybern_client::typed::{merge_diff, resource, tree};
use kybern_client::write::{At, DeleteOptions, Writer};
use kybern_node_agent::pods::observe::{self, Observed, Sandbox, State};
use kybern_node_agent::pods::plan::Marks;
use kybern_node_agent::pods::resize::Granted;
use kybern_node_agent::pods::spec::is_sidecar;
use kybern_node_agent::pods::status::{Facts, status};
use serde_json::{Value, json};
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// A write that failed is repeated after this time.
const RETRY: Duration = Duration::from_millis(500);

/// One thing to do for a pod.
#[derive(Debug)]
pub(super) enum Work {
    /// Report it as running.
    Run {
        /// The pod.
        object: Object,
        /// Its node's address.
        node: Ipv4Addr,
        /// Its own.
        address: Ipv4Addr,
    },
    /// Take it away: it is being deleted.
    End {
        /// The pod's name.
        name: Name,
        /// Its uid.
        uid: SmolStr,
    },
}

/// Does what is queued until the queue is closed, so much at a time.
pub(super) async fn run(queue: mpsc::Receiver<Work>, writer: Writer, clock: Arc<SystemClock>) {
    let pods = resource::<Pod>();
    ReceiverStream::new(queue).for_each_concurrent(CONCURRENT, |work| done(work, &writer, &pods, &clock)).await;
}

/// Repeats one piece of work until it is done or its pod is gone.
async fn done(work: Work, writer: &Writer, pods: &Resource, clock: &SystemClock) {
    loop {
        match attempt(&work, writer, pods, clock).await {
            Ok(()) => return,
            // It is gone, or another pod has its name.
            Err(s) if matches!(s.reason, Reason::NotFound | Reason::Conflict | Reason::Invalid) => return,
            Err(s) => {
                eprintln!("a pod's state was not written and is written again: {s}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn attempt(work: &Work, writer: &Writer, pods: &Resource, clock: &SystemClock) -> Result<(), Status> {
    match work {
        Work::Run { object, node, address } => {
            let unreadable = |e: serde_json::Error| Status::internal(e.to_string());
            let pod: Pod = object.view().map_err(unreadable)?;
            let old = tree(&pod.status.clone().unwrap_or_default()).map_err(unreadable)?;
            let new = running(&pod, *node, *address, clock).map_err(unreadable)?;
            let Some(diff) = merge_diff(&old, &new) else { return Ok(()) };
            let patch = json!({"metadata": {"uid": object.head.uid}, "status": diff});
            let head = &object.head;
            let at = At { resource: pods, namespace: &head.namespace, name: &head.name, subresource: "status" };
            writer.patch(at, MERGE_PATCH, &patch).await.map(drop)
        }
        Work::End { name, uid } => {
            let at = At { resource: pods, namespace: &name.namespace, name: &name.name, subresource: "" };
            let options = DeleteOptions { uid: Some(uid.to_string()), grace: Some(0), ..DeleteOptions::default() };
            writer.delete(at, &options).await.map(drop)
        }
    }
}

/// The status an agent would report if the runtime had done everything asked of it.
fn running(pod: &Pod, node: Ipv4Addr, address: Ipv4Addr, clock: &SystemClock) -> Result<Value, serde_json::Error> {
    let spec = pod.spec.clone().unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let now = clock.now();
    let inits = spec.init_containers.iter().flatten();
    let containers = inits.map(|c| (c, !is_sidecar(c))).chain(spec.containers.iter().map(|c| (c, false)));
    let containers: Vec<_> = containers.map(|(c, over)| container(uid, c, over, now)).collect();
    let all = || containers.iter().map(|c| c.id.clone()).collect();
    let marks = Marks { started: all(), ready: all(), ..Marks::default() };
    let sandbox = Sandbox { id: uid.to_owned(), ready: true, attempt: 0, ips: vec![address.to_string()] };
    let facts = Facts {
        pod,
        observed: &Observed { sandbox: Some(sandbox), old_sandboxes: Vec::new(), containers },
        marks: &marks,
        waiting: &BTreeMap::new(),
        ending: None,
        finished: false,
        granted: &Granted::default(),
        pending: None,
        stuck: None,
        host_ip: &node.to_string(),
        host_network: spec.host_network == Some(true),
        now,
    };
    tree(&status(&facts))
}

fn container(uid: &str, c: &Container, over: bool, now: jiff::Timestamp) -> observe::Container {
    let image = c.image.clone().unwrap_or_default();
    observe::Container {
        id: format!("{uid}-{}", c.name),
        name: c.name.clone(),
        sandbox: uid.to_owned(),
        state: if over { State::Exited } else { State::Running },
        started: Some(now),
        finished: over.then_some(now),
        image_ref: image.clone(),
        image,
        ..observe::Container::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_runs_and_the_pod_is_ready() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u"},
            "spec": {
                "initContainers": [{"name": "once", "image": "i"}, {"name": "side", "image": "i", "restartPolicy": "Always"}],
                "containers": [{"name": "main", "image": "web:1"}],
            },
        }))
        .unwrap();
        let made = running(&pod, "10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), &SystemClock::default());
        let status = made.unwrap();
        assert_eq!((&status["phase"], &status["podIP"]), (&json!("Running"), &json!("10.0.0.2")));
        assert_eq!(status["hostIP"], "10.0.0.1");
        let conditions = status["conditions"].as_array().unwrap();
        assert_eq!(conditions.iter().filter(|c| c["status"] == "True").count(), 4, "{conditions:?}");
        assert!(status["containerStatuses"][0]["state"]["running"].is_object());
        assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
        assert!(status["initContainerStatuses"][1]["state"]["running"].is_object());
    }
}
