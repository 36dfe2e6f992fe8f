//! What `kubectl get pods` shows.

use crate::kind::{Column, View};
use crate::kinds::cells;
use crate::kinds::row::{age, computed, name, text_or};
use crate::meta::time;
use crate::tree;
use serde_json::Value;

/// The columns; the pod's own [`cells`] fill them, since three of them come from one walk.
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
