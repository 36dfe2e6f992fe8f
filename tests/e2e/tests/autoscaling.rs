//! Workloads are sized by what they use.

use kybern_e2e::{Namespace, ensure, within};
use std::time::Duration;

/// Bounded by its limit, so that it leaves the machine to others.
const BUSY: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: busy }
spec:
  selector: { matchLabels: { app: busy } }
  template:
    metadata: { labels: { app: busy } }
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: kybern.local/web:1
        command: ["/bin/sh", "-c", "while :; do :; done"]
        resources: { requests: { cpu: 50m }, limits: { cpu: 100m } }
"#;

#[test]
fn a_busy_deployment_grows_by_its_metrics() {
    let ns = Namespace::new("autoscaling");
    ns.apply(BUSY);
    let said = ns.say(&["autoscale", "deployment", "busy", "--min=1", "--max=2", "--cpu-percent=50"]);
    assert_eq!(said, "horizontalpodautoscaler.autoscaling/busy autoscaled");
    // Figures are taken over ten seconds after the pod became ready; decisions are made every fifteen.
    within("it grows to its maximum", Duration::from_secs(120), || {
        let size = ns.path(&["deployment", "busy"], "{.status.readyReplicas}")?;
        ensure(size == "2", || ns.kubectl(&["describe", "hpa", "busy"]).unwrap_or_default())
    });
    let status = ns.path(&["hpa", "busy"], "{.status.currentMetrics[0].resource.current.averageUtilization}").unwrap();
    assert!(status.parse::<u32>().is_ok_and(|used| used > 50), "utilisation {status}");
    let told = ns.kubectl(&["events", "--for", "hpa/busy"]).unwrap();
    assert!(
        told.contains("New size: 2; reason: cpu resource utilization (percentage of request) above target"),
        "{told}"
    );
}
