//! Certificates, from an openssl key to a working kubeconfig, and what strangers get.

use kybern_e2e::{Namespace, Scratch, ensure, eventually, kubectl_program, run, shell};
use std::process::Command;

fn openssl(args: &[&str]) -> String {
    let out = Command::new("openssl").args(args).output().expect("openssl");
    assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A kubeconfig like the administrator's, with other credentials: flags of `kubectl config set-credentials`.
fn kubeconfig(dir: &Scratch, credentials: &[&str]) -> String {
    let config = dir.file("config");
    let server = run(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"], None).unwrap();
    let ca = run(
        &["config", "view", "--raw", "--minify", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}"],
        None,
    );
    let ca_file = dir.file("ca.crt");
    std::fs::write(dir.file("ca.b64"), ca.unwrap()).unwrap();
    std::fs::write(&ca_file, openssl(&["base64", "-d", "-A", "-in", &dir.file("ca.b64")])).unwrap();
    let set = |args: &[&str]| {
        let mut all = vec!["config", "--kubeconfig", &config];
        all.extend_from_slice(args);
        run(&all, None).unwrap();
    };
    set(&["set-cluster", "c", "--server", &server, "--certificate-authority", &ca_file]);
    set(&[&["set-credentials", "u"], credentials].concat());
    set(&["set-context", "x", "--cluster", "c", "--user", "u"]);
    set(&["use-context", "x"]);
    config
}

/// The administrator's kubeconfig under the names of Kubernetes' documentation, for a user to change.
fn documented_kubeconfig(dir: &Scratch, namespace: &str) -> String {
    let text = run(&["config", "view", "--raw", "--minify", "-o", "json"], None).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["clusters"][0]["name"] = "kubernetes".into();
    config["contexts"][0]["context"]["cluster"] = "kubernetes".into();
    config["contexts"][0]["context"]["namespace"] = namespace.into();
    let path = dir.file("documented");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// Types `script` into a shell whose `kubectl` is the one under test; what it said.
fn typed(dir: &Scratch, config: &str, script: &str) -> anyhow::Result<String> {
    let kubectl = dir.file("kubectl");
    if !std::path::Path::new(&kubectl).exists() {
        std::os::unix::fs::symlink(kubectl_program(), &kubectl)?;
    }
    let path = format!("{}:{}", dir.file(""), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("bash");
    shell
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(dir.file(""))
        .env("PATH", path)
        .env("KUBECONFIG", config);
    let out = shell.output()?;
    let said = [&out.stdout, &out.stderr].map(|s| String::from_utf8_lossy(s).into_owned()).concat();
    ensure(out.status.success(), || format!("{script}\n{said}"))?;
    Ok(said)
}

/// The walk-through of Kubernetes' documentation, as a user types it.
#[test]
fn the_documented_way_from_a_key_to_a_working_user() {
    let (ns, dir) = (Namespace::new("csr"), Scratch::new("csr"));
    let config = documented_kubeconfig(&dir, ns.name());
    let types = |script: &str| typed(&dir, &config, script).unwrap();
    types("kubectl delete csr myuser --ignore-not-found");
    types(r#"openssl genrsa -out myuser.key 3072"#);
    types(r#"openssl req -new -key myuser.key -out myuser.csr -subj "/CN=myuser""#);
    let request = types(r#"cat myuser.csr | base64 | tr -d "\n""#);
    let applied = types(&format!(
        r#"cat <<EOF | kubectl apply -f -
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata:
  name: myuser # example
spec:
  # This is an encoded CSR. Change this to the base64-encoded contents of myuser.csr
  request: {request}
  signerName: kubernetes.io/kube-apiserver-client
  expirationSeconds: 86400  # one day
  usages:
  - client auth
EOF"#
    ));
    assert_eq!(applied.trim(), "certificatesigningrequest.certificates.k8s.io/myuser created");
    let listed = types("kubectl get csr");
    let line = listed.lines().find(|l| l.starts_with("myuser")).expect("it is listed");
    assert!(
        line.contains("kubernetes.io/kube-apiserver-client") && line.contains("24h") && line.ends_with("Pending"),
        "{line}"
    );
    let approved = types("kubectl certificate approve myuser");
    assert_eq!(approved.trim(), "certificatesigningrequest.certificates.k8s.io/myuser approved");
    eventually("it is signed", || typed(&dir, &config, "kubectl get csr/myuser -o yaml | grep '^  certificate: '"));
    assert!(types("kubectl get csr myuser").contains("Approved,Issued"));
    types(r#"kubectl get csr myuser -o jsonpath='{.status.certificate}'| base64 -d > myuser.crt"#);
    let shown = types("openssl x509 -in myuser.crt -noout -subject -enddate -checkend 82800");
    assert!(shown.contains("myuser") && shown.contains("will not expire"), "{shown}");
    assert!(typed(&dir, &config, "openssl x509 -in myuser.crt -noout -checkend 90000").is_err(), "for one day only");

    types(
        "kubectl create role developer --verb=create --verb=get --verb=list --verb=update --verb=delete --resource=pods",
    );
    types("kubectl create rolebinding developer-binding-myuser --role=developer --user=myuser");
    types(
        "kubectl config set-credentials myuser --client-key=myuser.key --client-certificate=myuser.crt --embed-certs=true",
    );
    types("kubectl config set-context myuser --cluster=kubernetes --user=myuser");
    types("kubectl config use-context myuser");
    assert!(types("kubectl auth whoami").contains("myuser"));
    types(&format!("kubectl config set-context --current --namespace={}", ns.name()));
    let pods = eventually("the role is honoured", || typed(&dir, &config, "kubectl get pods"));
    assert!(pods.contains("No resources found"), "{pods}");
    let refused = |script: &str| format!("{:#}", typed(&dir, &config, script).expect_err("the role does not say so"));
    let text = refused("kubectl get secrets");
    assert!(
        text.contains(r#"(Forbidden): secrets is forbidden: User "myuser" cannot list resource "secrets""#),
        "{text}"
    );
    assert!(refused("kubectl get pods -n default").contains(r#"in the namespace "default""#));
    run(&["delete", "csr", "myuser"], None).unwrap();
}

#[test]
fn a_certificate_of_a_foreign_authority_is_unauthorized() {
    let dir = Scratch::new("foreign");
    let (key, certificate) = (dir.file("k"), dir.file("c"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        &key,
        "-out",
        &certificate,
        "-days",
        "1",
        "-subj",
        "/CN=eve/O=system:masters",
    ]);
    let config = kubeconfig(&dir, &["--client-certificate", &certificate, "--client-key", &key]);
    let text = format!("{:#}", run(&["--kubeconfig", &config, "get", "pods"], None).unwrap_err());
    assert!(text.contains("Unauthorized") || text.contains("must be logged in"), "{text}");
}

/// A pod that has the client under test, which is a static program, beside its account's files.
fn pod_with_client(account: &str) -> String {
    let program = std::fs::canonicalize(kubectl_program()).expect("kubectl is a file");
    let program = program.to_str().expect("a path in UTF-8");
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: client }}
spec:
  serviceAccountName: {account}
  terminationGracePeriodSeconds: 1
  volumes: [{{ name: client, hostPath: {{ path: "{program}", type: File }} }}]
  containers:
  - name: main
    image: kybern.local/web:1
    command: ["/bin/sleep", "600"]
    volumeMounts: [{{ name: client, mountPath: /bin/kubectl, readOnly: true }}]
"#
    )
}

/// What a pod is told by `https://kubernetes`, as a client that is given these flags.
fn from_inside(ns: &Namespace, credentials: &str, path: &str) -> anyhow::Result<String> {
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    // An empty kubeconfig, and no mark of a pod: nothing but what is said counts.
    let script = format!(
        "unset KUBERNETES_SERVICE_HOST && cd {account} && : > /tmp/none && kubectl --kubeconfig /tmp/none --server https://kubernetes.default.svc \
         --certificate-authority ca.crt {credentials} get --raw {path}"
    );
    ns.kubectl(&["exec", "client", "--", "sh", "-c", &script])
}

#[test]
fn from_inside_a_pod_the_token_opens_what_its_roles_do_and_nothing_opens_without() {
    let ns = Namespace::new("frompod");
    ns.say(&["create", "serviceaccount", "web"]);
    ns.say(&["create", "role", "pods", "--verb=get,list", "--resource=pods"]);
    ns.say(&["create", "rolebinding", "web", "--role=pods", &format!("--serviceaccount={}:web", ns.name())]);
    ns.apply(&pod_with_client("web"));
    ns.ready("client");
    let path = |resource: &str| format!("/api/v1/namespaces/{}/{resource}", ns.name());
    let with = r#"--token "$(cat token)""#;
    let seen = eventually("the role is honoured", || from_inside(&ns, with, &path("pods")));
    assert!(seen.contains(r#""kind":"PodList""#) && seen.contains(r#""name":"client""#), "{seen}");
    let told = |credentials: &str, path: &str| format!("{:#}", from_inside(&ns, credentials, path).expect_err(path));
    let text = told(with, &path("secrets"));
    let user = format!("system:serviceaccount:{}:web", ns.name());
    assert!(text.contains("(Forbidden)") && text.contains(&user), "{text}");
    // Where older documents show "Forbidden" for system:anonymous, there is no anonymous user. kubectl wants to
    // be given something: a name and a password are no credentials to the API.
    let without = "--username nobody --password none";
    for of_nobody in [path("pods"), "/api".to_owned()] {
        let text = told(without, &of_nobody);
        assert!(text.contains("Unauthorized") || text.contains("must be logged in"), "{text}");
    }
    assert_eq!(from_inside(&ns, without, "/healthz").unwrap().trim(), "ok", "health is for everybody");
    let text = told(r#"--token "$(cat token)x""#, &path("pods"));
    assert!(text.contains("Unauthorized") || text.contains("must be logged in"), "{text}");
}

#[test]
fn a_pods_token_is_its_accounts_and_opens_what_its_roles_do() {
    let (ns, dir) = (Namespace::new("inpod"), Scratch::new("inpod"));
    ns.say(&["create", "serviceaccount", "web"]);
    ns.say(&["create", "role", "pods", "--verb=get,list", "--resource=pods"]);
    ns.say(&["create", "rolebinding", "web", "--role=pods", &format!("--serviceaccount={}:web", ns.name())]);
    ns.apply(&shell("client", "sleep 600").replace("spec:\n", "spec:\n  serviceAccountName: web\n"));
    ns.ready("client");
    let mount = "/var/run/secrets/kubernetes.io/serviceaccount";
    let mounted = ns.say(&["exec", "client", "--", "ls", mount]);
    assert_eq!(mounted.split_whitespace().collect::<Vec<_>>(), ["ca.crt", "namespace", "token"]);
    let token = ns.say(&["exec", "client", "--", "cat", &format!("{mount}/token")]);
    let ask = |token: &str, resource: &str| {
        let config = kubeconfig(&dir, &["--token", token]);
        run(&["--kubeconfig", &config, "-n", ns.name(), "get", resource, "-o", "name"], None)
    };
    let seen = eventually("the account's role is honoured", || ask(&token, "pods"));
    assert_eq!(seen.trim(), "pod/client");
    let text = format!("{:#}", ask(&token, "secrets").unwrap_err());
    assert!(text.contains("(Forbidden)") && text.contains(&format!("serviceaccount:{}:web", ns.name())), "{text}");
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    let text = format!("{:#}", ask(&forged, "pods").unwrap_err());
    assert!(text.contains("Unauthorized") || text.contains("must be logged in"), "{text}");
    // What a token is bound to is gone: so is the token.
    ns.say(&["delete", "pod", "client"]);
    eventually("the token has died with its pod", || {
        let refused = ask(&token, "pods")
            .is_err_and(|e| format!("{e:#}").contains("nauthorized") || format!("{e:#}").contains("logged in"));
        ensure(refused, || "still let in".into())
    });
}
