//! Jobs and cron jobs with real containers: how they end, how they are counted, how they go.

use kybern_e2e::{Namespace, ensure, eventually};
use serde_json::Value;

/// A Job of the web image that runs a shell command; `spec` is further lines of its spec.
fn job(name: &str, command: &str, spec: &str) -> String {
    let command = Value::from(command);
    format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{ name: {name} }}
spec:
  {spec}
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
      - {{ name: main, image: "kybern.local/web:1", command: ["/bin/sh", "-c", {command}] }}
"#
    )
}

fn complete(ns: &Namespace, name: &str) {
    ns.say(&["wait", &format!("job/{name}"), "--for=condition=Complete", "--timeout=60s"]);
}

#[test]
fn a_job_completes_with_its_count_and_rests() {
    let ns = Namespace::new("job");
    ns.apply(&job("count", "exit 0", "completions: 4\n  parallelism: 2"));
    complete(&ns, "count");
    let job = ns.get(&["job", "count"]).unwrap();
    let status = &job["status"];
    assert_eq!((&status["succeeded"], &status["uncountedTerminatedPods"]), (&4.into(), &serde_json::json!({})));
    assert_eq!((&status["ready"], &status["active"], &status["failed"]), (&0.into(), &Value::Null, &Value::Null));
    assert!(status["completionTime"].is_string(), "{status}");
    let row = ns.say(&["get", "job", "count", "--no-headers"]);
    assert!(row.contains("Complete") && row.contains("4/4"), "{row}");
    let pods = ns.get(&["pods", "-l", "job-name=count"]).unwrap();
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 4, "as many pods as completions");
    assert!(pods.iter().all(|p| p["metadata"]["finalizers"].is_null()), "all are counted and let go");
    eventually("its events", || {
        let events = ns.kubectl(&["get", "events", "--field-selector", "involvedObject.name=count"])?;
        ensure(events.contains("SuccessfulCreate") && events.contains("Job completed"), || events.clone())
    });
}

#[test]
fn an_indexed_job_gives_every_pod_its_index() {
    let ns = Namespace::new("indexed");
    let says = "echo $JOB_COMPLETION_INDEX $(hostname)";
    ns.apply(&job("parts", says, "completions: 3\n  parallelism: 3\n  completionMode: Indexed"));
    complete(&ns, "parts");
    assert_eq!(ns.path(&["job", "parts"], "{.status.completedIndexes}").unwrap(), "0-2");
    let logs = ns.say(&["logs", "-l", "job-name=parts", "--tail=-1"]);
    let mut lines: Vec<&str> = logs.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0 parts-0", "1 parts-1", "2 parts-2"]);
    let label = "{.items[*].metadata.labels.batch\\.kubernetes\\.io/job-completion-index}";
    let labels = ns.path(&["pods", "-l", "job-name=parts"], label).unwrap();
    assert_eq!(labels.split(' ').count(), 3, "{labels}");
}

#[test]
fn a_failing_job_ends_at_its_limit_or_by_its_policy() {
    let ns = Namespace::new("failing");
    ns.apply(&job("limit", "exit 1", "backoffLimit: 0"));
    let policy = "podFailurePolicy: { rules: [{ action: FailJob, onExitCodes: { operator: In, values: [42] } }] }";
    ns.apply(&job("policy", "exit 42", policy));
    for (name, reason) in [("limit", "BackoffLimitExceeded"), ("policy", "PodFailurePolicy")] {
        ns.say(&["wait", &format!("job/{name}"), "--for=condition=Failed", "--timeout=60s"]);
        let status = ns.get(&["job", name]).unwrap()["status"].clone();
        let types: Vec<&str> =
            status["conditions"].as_array().unwrap().iter().filter_map(|c| c["type"].as_str()).collect();
        assert_eq!((types, &status["failed"]), (vec!["FailureTarget", "Failed"], &1.into()), "{status}");
        assert_eq!(status["conditions"][1]["reason"], reason);
    }
}

#[test]
fn a_job_is_suspended_resumed_and_gone_after_its_time() {
    let ns = Namespace::new("suspended");
    ns.apply(&job("rest", "sleep 600", "suspend: true"));
    let suspended = |value: &'static str| {
        ns.say(&["wait", "job/rest", &format!("--for=condition=Suspended={value}"), "--timeout=30s"]);
    };
    suspended("True");
    assert_eq!(ns.path(&["job", "rest"], "{.status.startTime}").unwrap(), "");
    ns.say(&["patch", "job", "rest", "-p", r#"{"spec": {"suspend": false}}"#]);
    suspended("False");
    ns.say(&["wait", "pod", "-l", "job-name=rest", "--for=condition=Ready", "--timeout=60s"]);
    ns.say(&["patch", "job", "rest", "-p", r#"{"spec": {"suspend": true}}"#]);
    suspended("True");
    eventually("its pod goes", || {
        let pods = ns.kubectl(&["get", "pods", "-l", "job-name=rest", "-o", "name"])?;
        ensure(pods.trim().is_empty(), || pods.clone())
    });
    assert_eq!(ns.path(&["job", "rest"], "{.status.failed}").unwrap(), "", "a pod given up has not failed");

    ns.apply(&job("brief", "exit 0", "ttlSecondsAfterFinished: 1"));
    eventually("the job goes, and its pods with it", || {
        let left = ns.kubectl(&["get", "job/brief", "--ignore-not-found", "-o", "name"])?;
        let pods = ns.kubectl(&["get", "pods", "-l", "job-name=brief", "-o", "name"])?;
        ensure(left.trim().is_empty() && pods.trim().is_empty(), || format!("{left}{pods}"))
    });
}

#[test]
fn a_cron_job_runs_at_its_time_and_by_hand() {
    let ns = Namespace::new("cron");
    let refused = ns.refused(&["create", "cronjob", "bad", "--image=kybern.local/web:1", "--schedule=* * * *"]);
    assert!(refused.contains("expected exactly 5 fields, found 4"), "{refused}");
    let said = ns.say(&[
        "create",
        "cronjob",
        "tick",
        "--image=kybern.local/web:1",
        "--schedule=@every 2s",
        "--restart=Never",
        "--",
        "/bin/sh",
        "-c",
        "exit 0",
    ]);
    assert_eq!(said, "cronjob.batch/tick created");
    let stamp = "{.items[*].metadata.annotations.batch\\.kubernetes\\.io/cronjob-scheduled-timestamp}";
    eventually("its first job is made and told", || {
        let stamps = ns.path(&["jobs"], stamp)?;
        let last = ns.path(&["cronjob", "tick"], "{.status.lastScheduleTime}")?;
        ensure(!last.is_empty() && !stamps.is_empty(), || format!("{stamps} {last}"))
    });
    eventually("and succeeds", || {
        let last = ns.path(&["cronjob", "tick"], "{.status.lastSuccessfulTime}")?;
        ensure(!last.is_empty(), || ns.kubectl(&["get", "jobs,pods"]).unwrap_or_default())
    });
    ns.say(&["patch", "cronjob", "tick", "-p", r#"{"spec": {"suspend": true}}"#]);
    assert_eq!(ns.say(&["create", "job", "--from=cronjob/tick", "by-hand"]), "job.batch/by-hand created");
    complete(&ns, "by-hand");
    ns.say(&["delete", "cronjob", "tick"]);
    eventually("its jobs go with it", || {
        let left = ns.kubectl(&["get", "jobs,pods", "-o", "name"])?;
        ensure(left.trim().is_empty(), || left.clone())
    });
}
