//! What `kubectl get pods` shows.

use crate::kind::{Column, View};
use crate::kinds::cells;
use crate::kinds::row::{age, computed, name, text_or};
use crate::meta::time;
use crate::tree;
use serde_json::Value;

/// The columns; the pod's own [`cells()`] fill them, since three of them come from one walk.
pub(super) fn columns() -> [Column; 9] {
    [
        name(),
        computed("Ready", "Ready containers of all.", |v| Summary::of(v).ready()),
        computed("Status", "What the pod is doing.", |v| Summary::of(v).status.into()),
        computed("Restarts", "How often containers were restarted, and when last.", |v| Summary::of(v).restarts(v)),
        age(),
        computed("IP", "Address of the pod.", |v| match tree::list(v.obj, "status.podIPs").first() {
            Some(first) => tree::text(first, "ip").into(),
            None => cells::NONE.into(),
        })
        .wide(),
        text_or("Node", "spec.nodeName", cells::NONE).wide(),
        text_or("Nominated Node", "status.nominatedNodeName", cells::NONE).wide(),
        computed("Readiness Gates", "Conditions that count towards readiness.", |v| gates(v.obj)).wide(),
    ]
}

/// The cells of a row, with one walk over the container statuses.
pub(super) fn cells(columns: &[Column], view: &View<'_>) -> Vec<Value> {
    let summary = Summary::of(view);
    let cell = |(i, column): (usize, &Column)| match i {
        1 => summary.ready(),
        2 => summary.status.as_str().into(),
        3 => summary.restarts(view),
        _ => column.cell.read(view),
    };
    columns.iter().enumerate().map(cell).collect()
}

/// What the container statuses add up to.
struct Summary {
    ready: usize,
    total: usize,
    status: String,
    restarts: Restarts,
}

/// How often containers were restarted.
#[derive(Default)]
struct Restarts {
    count: i64,
    /// Newest end of an earlier run, seconds since the epoch.
    last_end: Option<i64>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += tree::int(status, "restartCount").unwrap_or_default();
        self.last_end = self.last_end.max(time::parse_value(tree::at(status, "lastState.terminated.finishedAt")));
    }
}

impl Summary {
    fn of(view: &View<'_>) -> Self {
        let pod = view.obj;
        let phase = tree::text(pod, "status.phase");
        let reason = tree::text(pod, "status.reason");
        let restartable: Vec<&str> = tree::list(pod, "spec.initContainers")
            .iter()
            .filter(|c| tree::text(c, "restartPolicy") == "Always")
            .map(|c| tree::text(c, "name"))
            .collect();
        let mut out = Self {
            ready: 0,
            total: tree::list(pod, "spec.containers").len() + restartable.len(),
            status: if reason.is_empty() { phase } else { reason }.to_owned(),
            restarts: Restarts::default(),
        };
        if cells::condition(pod, "PodScheduled").is_some_and(|c| tree::text(c, "reason") == "SchedulingGated") {
            "SchedulingGated".clone_into(&mut out.status);
        }
        let (initializing, of_restartable) = out.walk_init(pod, &restartable);
        if !initializing || cells::condition_is_true(pod, "Initialized") {
            out.restarts = of_restartable;
            out.walk_regular(pod);
        }
        if view.head.deleting.is_some() {
            if reason == "NodeLost" {
                "Unknown".clone_into(&mut out.status);
            } else if !matches!(phase, "Succeeded" | "Failed") {
                "Terminating".clone_into(&mut out.status);
            }
        }
        out
    }

    /// Walks the init containers in order until one is not done; says whether there was one, and how
    /// often those that stay were restarted.
    fn walk_init(&mut self, pod: &Value, restartable: &[&str]) -> (bool, Restarts) {
        let mut of_restartable = Restarts::default();
        let total = tree::list(pod, "spec.initContainers").len();
        for (i, c) in tree::list(pod, "status.initContainerStatuses").iter().enumerate() {
            self.restarts.add(c);
            let stays = restartable.contains(&tree::text(c, "name"));
            if stays {
                of_restartable.add(c);
            }
            if tree::at(c, "state.terminated").is_some_and(|t| tree::int(t, "exitCode").unwrap_or_default() == 0) {
                continue;
            }
            if stays && tree::flag(c, "started") {
                self.ready += usize::from(tree::flag(c, "ready"));
                continue;
            }
            let waiting = tree::text(c, "state.waiting.reason");
            self.status = match tree::at(c, "state.terminated") {
                Some(terminated) => format!("Init:{}", ended(terminated)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{i}/{total}"),
            };
            return (true, of_restartable);
        }
        (false, of_restartable)
    }

    /// Walks the regular containers from last to first: the first with something to say wins.
    fn walk_regular(&mut self, pod: &Value) {
        let mut running = false;
        for c in tree::list(pod, "status.containerStatuses").iter().rev() {
            self.restarts.add(c);
            let waiting = tree::text(c, "state.waiting.reason");
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.status);
            } else if let Some(terminated) = tree::at(c, "state.terminated") {
                self.status = ended(terminated);
            } else if tree::flag(c, "ready") && tree::at(c, "state.running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.status == "Completed" && running {
            let ready = cells::condition_is_true(pod, "Ready");
            if ready { "Running" } else { "NotReady" }.clone_into(&mut self.status);
        }
    }

    fn ready(&self) -> Value {
        format!("{}/{}", self.ready, self.total).into()
    }

    fn restarts(&self, view: &View<'_>) -> Value {
        let count = self.restarts.count;
        match self.restarts.last_end {
            Some(end) if count > 0 => format!("{count} ({} ago)", time::age(view.now, end)).into(),
            _ => count.to_string().into(),
        }
    }
}

/// Why a container ended.
fn ended(terminated: &Value) -> String {
    let (reason, signal) = (tree::text(terminated, "reason"), tree::int(terminated, "signal").unwrap_or_default());
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", tree::int(terminated, "exitCode").unwrap_or_default()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn gates(pod: &Value) -> Value {
    let gates = tree::list(pod, "spec.readinessGates");
    if gates.is_empty() {
        return cells::NONE.into();
    }
    let holds = gates.iter().filter(|g| cells::condition_is_true(pod, tree::text(g, "conditionType"))).count();
    format!("{holds}/{}", gates.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Head;
    use serde_json::json;

    /// Ready, status and restarts of a pod with one regular container `c` and the given rest.
    fn shown(spec: Value, status: Value, deleting: bool) -> String {
        let mut obj = json!({ "spec": spec, "status": status });
        tree::set_if_absent(&mut obj["spec"], "containers", json!([{"name": "c"}]));
        let head = Head { deleting: deleting.then_some(1), ..Head::default() };
        let view = View { obj: &obj, head: &head, now: jiff::Timestamp::from_second(1000).expect("a time") };
        let cells = cells(&columns(), &view);
        let text = |i: usize| cells[i].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text(1), text(2), text(3))
    }

    fn running(ready: bool) -> Value {
        json!({"name": "c", "ready": ready, "restartCount": 0, "state": {"running": {}}})
    }

    #[test]
    fn regular_containers() {
        let waiting = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3,
            "lastState": {"terminated": {"finishedAt": "1970-01-01T00:15:00Z"}}});
        let ended = |t: Value| json!({"restartCount": 0, "state": {"terminated": t}});
        let status = |phase: &str, containers: Value| json!({"phase": phase, "containerStatuses": containers});
        let cases = [
            (json!({"phase": "Pending"}), "0/1 Pending 0"),
            (json!({"phase": "Failed", "reason": "Evicted"}), "0/1 Evicted 0"),
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
                "0/1 SchedulingGated 0",
            ),
            (status("Running", json!([running(true)])), "1/1 Running 0"),
            (status("Running", json!([running(false)])), "0/1 Running 0"),
            (status("Running", json!([waiting])), "0/1 CrashLoopBackOff 3 (100s ago)"),
            (status("Failed", json!([ended(json!({"reason": "Error", "exitCode": 1}))])), "0/1 Error 0"),
            (status("Failed", json!([ended(json!({"exitCode": 2}))])), "0/1 ExitCode:2 0"),
            (status("Failed", json!([ended(json!({"signal": 9}))])), "0/1 Signal:9 0"),
            (status("Running", json!([ended(json!({"reason": "Completed"})), running(true)])), "1/1 NotReady 0"),
        ];
        for (status, want) in cases {
            assert_eq!(shown(json!({}), status.clone(), false), want, "{status}");
        }
    }

    #[test]
    fn init_containers() {
        let spec = json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        let done = json!({"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 0}}});
        let cases = [
            (json!([{"name": "i", "restartCount": 1, "state": {"running": {}}}]), "0/2 Init:0/2 1"),
            (json!([{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]), "0/2 Init:ErrImagePull 0"),
            (json!([{"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]), "0/2 Init:0/2 0"),
            (json!([{"name": "i", "state": {"terminated": {"exitCode": 3}}}]), "0/2 Init:ExitCode:3 0"),
            (json!([done, {"name": "s", "state": {"running": {}}}]), "0/2 Init:1/2 2"),
            (
                json!([done, {"name": "s", "restartCount": 4, "started": true, "ready": true, "state": {"running": {}}}]),
                "1/2 Pending 4",
            ),
        ];
        for (statuses, want) in cases {
            let status = json!({"phase": "Pending", "initContainerStatuses": statuses});
            assert_eq!(shown(spec.clone(), status, false), want, "{statuses}");
        }
    }

    #[test]
    fn deletion() {
        let status = |phase: &str, reason: &str| json!({"phase": phase, "reason": reason});
        assert_eq!(shown(json!({}), status("Running", ""), true), "0/1 Terminating 0");
        assert_eq!(shown(json!({}), status("Running", "NodeLost"), true), "0/1 Unknown 0");
        assert_eq!(shown(json!({}), status("Succeeded", ""), true), "0/1 Succeeded 0");
    }

    #[test]
    fn gates_are_counted() {
        let pod = json!({"spec": {"readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]},
            "status": {"conditions": [{"type": "a", "status": "True"}]}});
        assert_eq!(gates(&pod), "1/2");
        assert_eq!(gates(&json!({})), "<none>");
    }
}
