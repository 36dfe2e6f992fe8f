//! A node loses its power. In a file of its own: nothing else may run on the node meanwhile.

use kybern_e2e::{Namespace, ensure, eventually, shell};
use std::process::Command;

/// Runs `kybern dev VERB node-1` on the cluster under test.
fn dev(verb: &str) {
    let program = std::env::var("KYBERN").expect("KYBERN");
    let name = std::env::var("KYBERN_NAME").expect("KYBERN_NAME");
    let status = Command::new(program).args(["dev", verb, "node-1", "--name", &name]).status().expect("kybern dev");
    assert!(status.success(), "kybern dev {verb}");
}

/// A database that writes its name once, counts its starts, and keeps a part in memory; a pod with nothing.
fn workloads() -> String {
    let start = "[ -f /data/name ] || hostname > /data/name; echo start >> /data/starts; \
                 echo start >> /cache/starts; cat /config/word > /cache/word; sleep 3600";
    format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{ name: words }}
data: {{ word: durable }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{ name: db }}
spec:
  serviceName: db
  selector: {{ matchLabels: {{ app: db }} }}
  template:
    metadata: {{ labels: {{ app: db }} }}
    spec:
      nodeSelector: {{ kubernetes.io/hostname: node-1 }}
      terminationGracePeriodSeconds: 1
      containers:
      - name: db
        image: kybern.local/web:1
        command: ["/bin/sh", "-c", "{start}"]
        volumeMounts:
        - {{ name: data, mountPath: /data }}
        - {{ name: cache, mountPath: /cache }}
        - {{ name: words, mountPath: /config }}
      volumes:
      - {{ name: cache, emptyDir: {{ medium: Memory }} }}
      - {{ name: words, configMap: {{ name: words }} }}
  volumeClaimTemplates:
  - metadata: {{ name: data }}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {{ requests: {{ storage: 1Mi }} }}
---
{}"#,
        shell("once", "echo done").replacen("spec:\n", "spec:\n  nodeName: node-1\n", 1)
    )
}

#[test]
fn a_database_survives_a_power_cut_of_its_node_with_its_data() {
    if std::env::var("KYBERN").is_err() {
        return eprintln!("skipped: faults need a dev cluster (KYBERN is not set)");
    }
    let ns = Namespace::new("reboot");
    ns.apply(&workloads());
    let read = |file: &str| ns.kubectl(&["exec", "db-0", "--", "cat", file]);
    eventually("the database runs", || {
        let starts = read("/data/starts")?;
        ensure(starts.trim() == "start" && read("/cache/word")?.trim() == "durable", || starts.clone())
    });
    let phase = || ns.path(&["pod", "once"], "{.status.phase}");
    eventually("the other pod ends", || ensure(phase()? == "Succeeded", || "not yet".into()));
    let uid = ns.path(&["pod", "db-0"], "{.metadata.uid}").unwrap();

    dev("poweroff");
    dev("start");
    eventually("the same pod runs again with its data", || {
        let starts = read("/data/starts")?;
        ensure(starts.lines().count() == 2, || starts.clone())
    });
    assert_eq!(ns.path(&["pod", "db-0"], "{.metadata.uid}").unwrap(), uid);
    assert_eq!(read("/data/name").unwrap().trim(), "db-0");
    assert_eq!(read("/cache/starts").unwrap().lines().count(), 1, "what was in memory is gone");
    assert_eq!(read("/cache/word").unwrap().trim(), "durable", "the configuration is there again");
    assert_eq!(phase().unwrap(), "Succeeded", "what had ended stays so");
    let restarts = ns.path(&["pod", "db-0"], "{.status.containerStatuses[0].restartCount}").unwrap();
    assert_eq!(restarts, "1");
}
