//! Deployments with real containers: rollout, scale, logs, exec, port-forward, copies.

use kybern_e2e::{Namespace, ensure, eventually, shell, web};
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn a_deployment_rolls_out_scales_updates_and_goes_back() {
    let ns = Namespace::new("rollout");
    ns.apply(&web("web", 2));
    let said = ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).unwrap();
    assert!(said.contains("successfully rolled out"), "{said}");
    ns.kubectl(&["scale", "deployment/web", "--replicas=3"]).unwrap();
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).unwrap();
    assert_eq!(ns.path(&["deployment", "web"], "{.status.readyReplicas}").unwrap(), "3");

    ns.kubectl(&["set", "image", "deployment/web", "web=kybern.local/nowhere:1"]).unwrap();
    eventually("the new image can't be had", || {
        let pods = ns.kubectl(&["get", "pods"])?;
        ensure(pods.contains("ErrImagePull") || pods.contains("ImagePullBackOff"), || pods.clone())
    });
    let available: u32 = ns.path(&["deployment", "web"], "{.status.availableReplicas}").unwrap().parse().unwrap();
    assert!(available >= 2, "a rolling update keeps its minimum: {available}");
    let history = ns.kubectl(&["rollout", "history", "deployment/web"]).unwrap();
    assert!(history.lines().any(|l| l.starts_with("2 ")), "{history}");
    ns.kubectl(&["rollout", "undo", "deployment/web"]).unwrap();
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).unwrap();
    assert_eq!(
        ns.path(&["deployment", "web"], "{.spec.template.spec.containers[0].image}").unwrap(),
        "kybern.local/web:1"
    );

    ns.kubectl(&["delete", "deployment", "web"]).unwrap();
    eventually("its pods go", || {
        let left = ns.kubectl(&["get", "replicasets,pods", "-o", "name"])?;
        ensure(left.trim().is_empty(), || left.clone())
    });
}

#[test]
fn logs_exec_copy_and_port_forward_reach_the_container() {
    let ns = Namespace::new("streams");
    ns.apply(&web("web", 1));
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).unwrap();
    let pod = ns.path(&["pods", "-l", "app=web"], "{.items[0].metadata.name}").unwrap();
    let logs = ns.kubectl(&["logs", &pod]).unwrap();
    assert!(logs.contains(&format!("serving as {pod}")), "{logs}");

    assert_eq!(ns.kubectl(&["exec", &pod, "--", "hostname"]).unwrap().trim(), pod);
    assert_eq!(ns.kubectl_with(&["exec", "-i", &pod, "--", "cat"], "through stdin").unwrap(), "through stdin");
    let failed = ns.refused(&["exec", &pod, "--", "sh", "-c", "exit 7"]);
    assert!(failed.contains("exit code 7"), "{failed}");

    let dir = std::env::temp_dir().join(format!("kybern-cp-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("in"), b"copied").unwrap();
    ns.kubectl(&["cp", dir.join("in").to_str().unwrap(), &format!("{pod}:/tmp/in")]).unwrap();
    ns.kubectl(&["cp", &format!("{pod}:/tmp/in"), dir.join("out").to_str().unwrap()]).unwrap();
    assert_eq!(std::fs::read(dir.join("out")).unwrap(), b"copied");
    std::fs::remove_dir_all(&dir).unwrap();

    let port = free_port();
    let forward = ns.background(&["port-forward", &pod, &format!("{port}:8080")]);
    let page = eventually("the forwarded port answers", || fetch(port));
    assert!(page.contains(&pod), "{page}");
    drop(forward);
}

#[test]
fn containers_get_their_environment_and_end_as_they_should() {
    let ns = Namespace::new("ends");
    ns.kubectl(&["create", "configmap", "c", "--from-literal=GREETING=hello"]).unwrap();
    ns.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: once }}
spec:
  restartPolicy: Never
  initContainers:
  - {{ name: first, image: "kybern.local/web:1", command: ["/bin/sh", "-c", "echo init done"] }}
  containers:
  - name: main
    image: kybern.local/web:1
    command: ["/bin/sh", "-c", "echo $(GREETING) from $(POD) in $NS; exit 3"]
    env:
    - {{ name: POD, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
    - {{ name: NS, value: {} }}
    envFrom: [{{ configMapRef: {{ name: c }} }}]
"#,
        ns.name()
    ));
    eventually("it fails with its exit code", || {
        let code =
            ns.path(&["pod", "once"], "{.status.phase}/{.status.containerStatuses[0].state.terminated.exitCode}")?;
        ensure(code == "Failed/3", || code.clone())
    });
    assert_eq!(ns.kubectl(&["logs", "once"]).unwrap().trim(), format!("hello from once in {}", ns.name()));
    assert_eq!(ns.kubectl(&["logs", "once", "-c", "first"]).unwrap().trim(), "init done");

    ns.apply(&shell("loop", "echo up; exit 1").replace("restartPolicy: Never", "restartPolicy: Always"));
    eventually("it is restarted and backs off", || {
        let row = ns.kubectl(&["get", "pod", "loop", "--no-headers"])?;
        ensure(row.contains("CrashLoopBackOff"), || row.clone())
    });
    let before = ns.kubectl(&["logs", "loop", "--previous"]).unwrap();
    assert_eq!(before.trim(), "up");
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn fetch(port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure(text.contains("200 OK"), || text.clone())?;
    Ok(text)
}
