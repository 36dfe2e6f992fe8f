//! Manifests the tests share. Both use the image that `deploy/web-image.sh` makes.

/// A Deployment of the web image.
pub fn web(name: &str, replicas: u32) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name}, labels: {{ app: {name} }} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: kybern.local/web:1
        ports: [{{ containerPort: 8080, name: http }}]
        readinessProbe: {{ httpGet: {{ path: /, port: http }}, periodSeconds: 1 }}
"#
    )
}

/// A pod that runs a shell command.
pub fn shell(name: &str, command: &str) -> String {
    let command = serde_json::Value::from(command);
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: {name} }} }}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: kybern.local/web:1
    command: ["/bin/sh", "-c", {command}]
"#
    )
}
