//! The pod, node and container that a connection goes to.

use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::server::ApiServer;
use crate::verbs::get;
use kybern_api::error::Status;
use serde::Deserialize;

/// What connections need to know of a pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Empty: not scheduled.
    pub(crate) node: String,
    containers: Vec<String>,
    init_containers: Vec<String>,
    ephemeral_containers: Vec<String>,
}

#[derive(Deserialize, Default)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    containers: Vec<Named>,
    init_containers: Vec<Named>,
    ephemeral_containers: Vec<Named>,
}

#[derive(Deserialize)]
struct View {
    #[serde(default)]
    spec: Spec,
}

impl Pod {
    /// The pod a request names, as of now: it may just have been made through another server.
    pub(crate) async fn of(server: &ApiServer, resource: &Resource, auth: &Authorized) -> Result<Self, Status> {
        server.0.read_barrier().await?;
        let object = get::current(&server.0, resource, auth.namespace(), auth.name())?;
        let View { spec } = object.view().map_err(|e| Status::internal(e.to_string()))?;
        let names = |list: Vec<Named>| list.into_iter().map(|c| c.name).collect();
        Ok(Self {
            namespace: object.head.namespace.to_string(),
            name: object.head.name.to_string(),
            uid: object.head.uid.to_string(),
            node: spec.node_name,
            containers: names(spec.containers),
            init_containers: names(spec.init_containers),
            ephemeral_containers: names(spec.ephemeral_containers),
        })
    }
    /// The container asked for, or the only one.
    pub(crate) fn container(&self, asked: Option<&str>) -> Result<String, Status> {
        if let Some(name) = asked {
            let all = self.containers.iter().chain(&self.init_containers).chain(&self.ephemeral_containers);
            if all.into_iter().any(|c| c == name) {
                return Ok(name.to_owned());
            }
            return Err(Status::bad_request(format!("container {name} is not valid for pod {}", self.name)));
        }
        match self.containers.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Status::bad_request(format!("a container name must be specified for pod {}", self.name))),
            several => {
                let (name, choice) = (&self.name, several.join(" "));
                let mut text = format!("a container name must be specified for pod {name}, choose one of: [{choice}]");
                if !self.init_containers.is_empty() {
                    text.push_str(&format!(" or one of the init containers: [{}]", self.init_containers.join(" ")));
                }
                Err(Status::bad_request(text))
            }
        }
    }
    /// The node it runs on.
    pub(crate) fn host(&self) -> Result<&str, Status> {
        if self.node.is_empty() {
            return Err(Status::bad_request(format!("pod {} does not have a host assigned", self.name)));
        }
        Ok(&self.node)
    }
}

#[cfg(test)]
impl Pod {
    pub(crate) fn with_containers(name: &str, containers: &[&str]) -> Self {
        Self { name: name.into(), containers: containers.iter().map(|n| (*n).to_owned()).collect(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &[&str], init: &[&str]) -> Pod {
        let init_containers = init.iter().map(|n| (*n).to_owned()).collect();
        Pod { init_containers, ..Pod::with_containers("web", containers) }
    }

    #[test]
    fn containers_are_chosen_as_kubectl_users_expect() {
        let cases = [
            (pod(&["a"], &[]), None, Ok("a")),
            (pod(&["a", "b"], &[]), Some("b"), Ok("b")),
            (pod(&["a"], &["setup"]), Some("setup"), Ok("setup")),
            (pod(&["a"], &[]), Some("x"), Err("container x is not valid for pod web")),
            (pod(&["a", "b"], &[]), None, Err("a container name must be specified for pod web, choose one of: [a b]")),
            (
                pod(&["a", "b"], &["i"]),
                None,
                Err(
                    "a container name must be specified for pod web, choose one of: [a b] or one of the init containers: [i]",
                ),
            ),
        ];
        for (pod, asked, expected) in cases {
            let got = pod.container(asked).map_err(|s| (s.code, s.message));
            assert_eq!(got, expected.map(str::to_owned).map_err(|m| (400, m.to_owned())), "{asked:?}");
        }
    }
}
