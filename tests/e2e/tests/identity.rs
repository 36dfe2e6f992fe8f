//! Certificates, from an openssl key to a working kubeconfig, and what strangers get.

use kybern_e2e::{Namespace, Scratch, ensure, eventually, run, shell};
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

#[test]
fn a_certificate_request_is_approved_signed_and_works_within_its_role() {
    let ns = Namespace::new("csr");
    let dir = Scratch::new("csr");
    let (key, csr, name) = (dir.file("jane.key"), dir.file("jane.csr"), format!("jane-{}", std::process::id()));
    openssl(&["genrsa", "-out", &key, "2048"]);
    openssl(&["req", "-new", "-key", &key, "-out", &csr, "-subj", "/CN=jane/O=devs"]);
    let request = openssl(&["base64", "-A", "-in", &csr]);
    let manifest = format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{ name: {name} }}\nspec:\n  request: {}\n  signerName: kubernetes.io/kube-apiserver-client\n  expirationSeconds: 86400\n  usages: [client auth]\n",
        request.trim()
    );
    ns.apply(&manifest);
    assert!(run(&["get", "csr", &name], None).unwrap().contains("Pending"));
    let said = run(&["certificate", "approve", &name], None).unwrap();
    assert!(said.contains("approved"), "{said}");
    let issued = eventually("it is signed", || {
        let text = run(&["get", "csr", &name, "-o", "jsonpath={.status.certificate}"], None)?;
        ensure(!text.is_empty(), || "no certificate yet".into())?;
        Ok(text)
    });
    assert!(run(&["get", "csr", &name], None).unwrap().contains("Approved,Issued"));
    std::fs::write(dir.file("jane.b64"), issued).unwrap();
    let certificate = dir.file("jane.crt");
    std::fs::write(&certificate, openssl(&["base64", "-d", "-A", "-in", &dir.file("jane.b64")])).unwrap();
    let config = kubeconfig(&dir, &["--client-certificate", &certificate, "--client-key", &key]);

    let as_jane = |args: &[&str]| {
        let mut all = vec!["--kubeconfig", config.as_str(), "-n", ns.name()];
        all.extend_from_slice(args);
        run(&all, None)
    };
    let text = format!("{:#}", as_jane(&["get", "pods"]).unwrap_err());
    assert!(text.contains("(Forbidden)") && text.contains("User \"jane\" cannot list resource \"pods\""), "{text}");
    ns.kubectl(&["create", "role", "pods", "--verb=get,list,create", "--resource=pods"]).unwrap();
    ns.kubectl(&["create", "rolebinding", "jane", "--role=pods", "--user=jane"]).unwrap();
    eventually("the role is honoured", || as_jane(&["get", "pods"]));
    run(&["delete", "csr", &name], None).unwrap();
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
    // The image's tools speak no TLS that the API takes: reach it from the pod, and speak from here.
    ns.say(&["exec", "client", "--", "timeout", "5", "sh", "-c", "nc kubernetes.default.svc 443 </dev/null"]);
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
