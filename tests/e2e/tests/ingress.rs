//! Ingress, driven by curl: hosts and paths over both nodes, certificates exchanged live, no request lost.

use anyhow::{Result, bail};
use kybern_e2e::{Namespace, Scratch, cells, ensure, eventually, run, web, within};
use std::process::Command;
use std::time::Duration;

/// What curl prints; the error is what it says on standard error.
fn curl(args: &[&str]) -> Result<String> {
    let out = Command::new("curl").args(["-sS", "--max-time", "10"]).args(args).output()?;
    if !out.status.success() {
        bail!("{}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A page of a host by one node, which must come with 200.
fn page(node: &str, host: &str, path: &str, more: &[&str]) -> Result<String> {
    let scheme = if more.contains(&"--cacert") { "https" } else { "http" };
    let port = if scheme == "https" { 443 } else { 80 };
    let (resolve, url) = (format!("{host}:{port}:{node}"), format!("{scheme}://{host}{path}"));
    let args = [&["--fail", "--noproxy", "*", "--resolve", &resolve, &url], more].concat();
    curl(&args)
}

fn status(node: &str, host: &str, path: &str) -> Result<String> {
    let (resolve, url) = (format!("{host}:80:{node}"), format!("http://{host}{path}"));
    curl(&["--noproxy", "*", "--resolve", &resolve, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", &url])
}

fn nodes() -> Vec<String> {
    let path = "-o=jsonpath={.items[*].status.addresses[?(@.type==\"InternalIP\")].address}";
    run(&["get", "nodes", path], None).unwrap().split(' ').map(str::to_owned).collect()
}

fn ingress(name: &str, host: &str, service: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {name} }}
spec:
  rules:
  - host: {host}
    http: {{ paths: [{{ path: /, pathType: Prefix, backend: {{ service: {{ name: {service}, port: {{ number: 80 }} }} }} }}] }}
{more}
"#
    )
}

fn served(ns: &Namespace, name: &str) {
    ns.apply(&web(name, 2));
    ns.rolled_out(name);
    ns.say(&["expose", "deployment", name, "--port=80", "--target-port=http"]);
}

/// A certificate of a host that signs itself, as the Secret `cert`; the path of the certificate.
fn certificate(ns: &Namespace, dir: &Scratch, round: &str, host: &str) -> String {
    let (key, certificate) = (dir.file(&format!("{round}.key")), dir.file(&format!("{round}.crt")));
    let (subject, name) = (format!("/CN={host}/O={round}"), format!("subjectAltName=DNS:{host}"));
    let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let names = ["-subj", &subject, "-addext", &name, "-days", "1", "-keyout", &key, "-out", &certificate];
    let made = Command::new("openssl").args(request).args(names).output().expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (key, file) = (format!("--key={key}"), format!("--cert={certificate}"));
    let secret = ns.say(&["create", "secret", "tls", "cert", &key, &file, "--dry-run=client", "-o", "yaml"]);
    ns.apply(&secret);
    certificate
}

#[test]
fn hosts_lead_to_their_services_on_every_node() {
    let ns = Namespace::new("ingress");
    served(&ns, "one");
    served(&ns, "two");
    let (one, two) = (format!("one.{}.test", ns.name()), format!("two.{}.test", ns.name()));
    let said = ns.apply(&(ingress("one", &one, "one", "") + "---" + &ingress("two", &two, "two", "")));
    assert!(said.contains("ingress.networking.k8s.io/one created") && !said.contains("Warning"), "{said}");
    assert_eq!(ns.path(&["ingress", "one"], "{.spec.ingressClassName}").unwrap(), "kybern", "the default class");
    let nodes = nodes();
    for node in &nodes {
        for (host, service) in [(&one, "one-"), (&two, "two-")] {
            let page = eventually("the host is served", || page(node, host, "/", &[]));
            assert!(page.starts_with(service), "{node} {host}: {page}");
        }
        assert_eq!(status(node, "nobody.test", "/").unwrap().trim(), "404");
    }
    let all = nodes.join(",");
    eventually("the nodes' addresses are told", || {
        let table = ns.say(&["get", "ingress", "one", "--no-headers"]);
        ensure(cells(&table)[..4] == ["one", "kybern", one.as_str(), all.as_str()], || table.clone())
    });

    // a rolling update costs no request
    ns.say(&["set", "env", "deployment/one", "ROUND=2"]);
    let mut lost = Vec::new();
    let rolled = || ns.kubectl(&["rollout", "status", "deployment/one", "--watch=false"]).unwrap();
    while !rolled().contains("successfully rolled out") {
        lost.extend(nodes.iter().filter_map(|node| page(node, &one, "/", &[]).err()));
    }
    assert!(lost.is_empty(), "{lost:?}");

    ns.say(&["delete", "ingress", "two"]);
    eventually("the host is served no more", || {
        let status = status(&nodes[0], &two, "/")?;
        ensure(status.trim() == "404", || status.clone())
    });
    assert!(page(&nodes[0], &one, "/", &[]).is_ok(), "the other is");
}

#[test]
fn certificates_come_from_secrets_and_change_live() {
    let ns = Namespace::new("ingress-tls");
    let dir = Scratch::new("ingress-tls");
    served(&ns, "web");
    let host = format!("web.{}.test", ns.name());
    let old = certificate(&ns, &dir, "old", &host);
    ns.apply(&ingress("web", &host, "web", &format!("  tls: [{{ hosts: [{host}], secretName: cert }}]")));
    let nodes = nodes();
    let trusting = |node: &str, certificate: &str| page(node, &host, "/", &["--cacert", certificate, "--http2"]);
    for node in &nodes {
        let page = eventually("the certificate is shown", || trusting(node, &old));
        assert!(page.starts_with("web-"), "{page}");
        let redirect = status(node, &host, "/x?y=z").unwrap();
        assert_eq!(redirect, format!("308 https://{host}/x?y=z"));
    }
    let new = certificate(&ns, &dir, "new", &host);
    for node in &nodes {
        within("the new certificate is shown", Duration::from_secs(10), || trusting(node, &new));
        assert!(trusting(node, &old).is_err(), "and the old one no more");
    }
    // what holds no certificate is told, and the last good one goes on
    ns.say(&["patch", "secret", "cert", "-p", r#"{"data":{"tls.crt":"eA=="}}"#]);
    eventually("the mistake is told", || {
        let events = ns.kubectl(&["get", "events", "--field-selector", "reason=InvalidCertificate"])?;
        ensure(events.contains("its tls.crt is not PEM"), || events.clone())
    });
    assert!(trusting(&nodes[0], &new).is_ok());
}

#[test]
fn mistakes_are_told_and_cost_nobody_else() {
    let ns = Namespace::new("ingress-bad");
    let thief = Namespace::new("ingress-thief");
    served(&ns, "web");
    let host = format!("web.{}.test", ns.name());
    ns.apply(&ingress("web", &host, "web", ""));
    ns.apply(&ingress("lost", &format!("lost.{}.test", ns.name()), "gone", ""));
    let node = &nodes()[0];
    eventually("the good one is served", || page(node, &host, "/", &[]));
    // creation times count whole seconds
    std::thread::sleep(Duration::from_millis(1100));
    thief.apply(&ingress("web", &host, "web", ""));
    let told = |ns: &Namespace, reason: &str, text: &str| {
        eventually("the mistake is told", || {
            let events = ns.kubectl(&["get", "events", "--field-selector", &format!("reason={reason}")])?;
            ensure(events.contains(text), || events.clone())
        })
    };
    told(&ns, "ServiceNotFound", "service \"gone\" not found");
    told(&thief, "Conflict", &format!("belongs to Ingress {}/web, which is older", ns.name()));
    assert_eq!(status(node, &format!("lost.{}.test", ns.name()), "/").unwrap().trim(), "503");
    assert!(page(node, &host, "/", &[]).unwrap().starts_with("web-"));
    let refused = ns.kubectl_with(&["create", "-f", "-"], &ingress("bad", "10.0.0.1", "web", "")).unwrap_err();
    assert!(format!("{refused:#}").contains("must be a DNS name, not an IP address"), "{refused:#}");
}
