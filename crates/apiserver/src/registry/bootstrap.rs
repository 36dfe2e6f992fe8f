//! Objects the system cannot be without: made by whichever server comes first, kept by all.

use crate::doors::local::LocalTransport;
use crate::error::Error;
use crate::server::ApiServer;
use kybern_api::attributes::UserInfo;
use kybern_api::error::{Reason, Status};
use kybern_api::kinds;
use kybern_client::transport::{Resource, Target, Transport, Write};
use serde_json::{Value, json};

/// The identity under which the server keeps its own objects.
pub(crate) const AGENT: &str = "kybern-apiserver";

/// Namespaces of the system.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

impl ApiServer {
    /// Creates the system's namespaces and priority classes where they are missing.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn bootstrap(&self) -> Result<(), Error> {
        let client = self.own_transport();
        let namespaces = Resource::new("", "v1", "namespaces");
        for name in NAMESPACES {
            let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            ensure(&client, &namespaces, "", body).await?;
        }
        let classes = Resource::new("scheduling.k8s.io", "v1", "priorityclasses");
        for (name, value) in kinds::SYSTEM_PRIORITIES {
            let body = json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
                "description": format!("For pods that the system cannot run without ({name})."),
            });
            ensure(&client, &classes, "", body).await?;
        }
        Ok(())
    }

    /// A client with the server's own identity, for objects that it keeps before any role exists.
    pub fn own_transport(&self) -> LocalTransport {
        let groups = vec!["system:masters".into(), "system:authenticated".into()];
        self.transport(UserInfo { name: "system:apiserver".into(), groups, ..UserInfo::default() }, AGENT)
    }
}

/// Creates an object unless it is there.
///
/// # Errors
/// When the store cannot be written.
pub(crate) async fn ensure(
    client: &LocalTransport,
    resource: &Resource,
    namespace: &str,
    body: Value,
) -> Result<(), Error> {
    let target = Target {
        resource: resource.clone(),
        namespace: namespace.to_owned(),
        name: String::new(),
        subresource: String::new(),
        query: Vec::new(),
        term: 0,
    };
    match client.write(&target, Write::Create(body.to_string().into())).await {
        Err(e) if e.reason != Reason::AlreadyExists => Err(failed(resource, &body, e)),
        _ => Ok(()),
    }
}

pub(crate) fn failed(resource: &Resource, body: &Value, source: Status) -> Error {
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    Error::Bootstrap { what: format!("{}/{name}", resource.plural), source }
}
