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
    /// Why containers that have never run wait, by name.
    waiting: Vec<(String, String)>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Reported {
    container_statuses: Vec<Container>,
    init_container_statuses: Vec<Container>,
    ephemeral_container_statuses: Vec<Container>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    state: State,
    last_state: State,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
    terminated: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Waiting {
    reason: String,
}

impl Reported {
    fn waiting(self) -> Vec<(String, String)> {
        let all = [self.container_statuses, self.init_container_statuses, self.ephemeral_container_statuses];
        let never_ran = all.into_iter().flatten().filter(|c| c.last_state.terminated.is_none());
        never_ran.filter_map(|c| Some((c.name, c.state.waiting?.reason))).collect()
    }
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
    #[serde(default)]
    status: Reported,
}

impl Pod {
    /// The pod a request names, as of now: it may just have been made through another server.
    pub(crate) async fn of(server: &ApiServer, resource: &Resource, auth: &Authorized) -> Result<Self, Status> {
        server.0.read_barrier().await?;
        let object = get::current(&server.0, resource, auth.namespace(), auth.name())?;
        let View { spec, status } = object.view().map_err(|e| Status::internal(e.to_string()))?;
        let names = |list: Vec<Named>| list.into_iter().map(|c| c.name).collect();
        Ok(Self {
            namespace: object.head.namespace.to_string(),
            name: object.head.name.to_string(),
            uid: object.head.uid.to_string(),
            node: spec.node_name,
            containers: names(spec.containers),
            init_containers: names(spec.init_containers),
            ephemeral_containers: names(spec.ephemeral_containers),
            waiting: status.waiting(),
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
    /// A container that waits to be started for the first time has no log.
    pub(crate) fn has_begun(&self, container: &str) -> Result<(), Status> {
        let Some((_, reason)) = self.waiting.iter().find(|(name, _)| name == container) else { return Ok(()) };
        let why = match reason.as_str() {
            "ErrImagePull" => "image can't be pulled",
            "ImagePullBackOff" => "trying and failing to pull image",
            other => other,
        };
        let name = &self.name;
        Err(Status::bad_request(format!("container \"{container}\" in pod \"{name}\" is waiting to start: {why}")))
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
    fn what_waits_says_why() {
        let status: Reported = serde_json::from_value(serde_json::json!({"containerStatuses": [
            {"name": "a", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
            {"name": "b", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}},
            {"name": "c", "state": {"running": {}}}]}))
        .unwrap();
        let pod = Pod { waiting: status.waiting(), ..pod(&["a", "b", "c"], &[]) };
        let why = "container \"a\" in pod \"web\" is waiting to start: trying and failing to pull image";
        assert_eq!(pod.has_begun("a").unwrap_err().message, why);
        assert!(pod.has_begun("b").is_ok() && pod.has_begun("c").is_ok());
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
