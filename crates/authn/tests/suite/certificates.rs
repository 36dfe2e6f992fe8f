//! Client certificates as the API server judges them, and certificate requests that openssl made.

use crate::support::{Cluster, at, known, refusal};
use jiff::SignedDuration;
use kybern_api::attributes::UserInfo;
use kybern_authn::pki::signer::{NodeApproval, Signer, lifetime};
use kybern_authn::pki::{CertificateRequest, ClusterKeys, San, Subject, Usages, certificates};
use std::path::Path;
use std::process::Command;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[test]
fn common_name_is_the_user_and_organizations_are_groups() {
    let cluster = Cluster::new();
    let issued = cluster.keys.client_certificate("jane", &["dev", "ops", "dev:eu"], at(0), HOUR).expect("issued");
    let user = known(cluster.certificate(&issued.chain, 1));
    assert_eq!(user.name, "jane");
    assert_eq!(user.groups, ["dev", "ops", "dev:eu", "system:authenticated"]);
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
}

#[test]
fn a_remembered_verdict_never_outlives_the_certificate() {
    let cluster = Cluster::new();
    let issued = cluster.keys.client_certificate("jane", &[], at(0), HOUR).expect("issued");
    known(cluster.certificate(&issued.chain, 0));
    known(cluster.certificate(&issued.chain, 3600));
    assert!(refusal(cluster.certificate(&issued.chain, 3601)).contains("xpired"));
    refusal(cluster.certificate(&issued.chain, -301));
    known(cluster.certificate(&issued.chain, -299));
}

#[test]
fn a_revoked_certificate_is_refused_also_where_it_is_remembered() {
    let cluster = Cluster::new();
    let leaked = cluster.keys.client_certificate("jane", &["ops"], at(0), HOUR).expect("issued");
    let renewed = cluster.keys.client_certificate("jane", &["ops"], at(1), HOUR).expect("issued");
    let user = known(cluster.certificate(&leaked.chain, 1));
    let id = user.extra["authentication.kubernetes.io/credential-id"][0].clone();
    let fingerprint = id.strip_prefix("X509SHA256=").expect("a fingerprint");
    let list = format!("{{\"data\":{{\"{fingerprint}\":\"lost laptop\"}}}}");
    cluster.world.put("configmaps", "kube-system", "kybern-revoked-certificates", "u", None, &list);
    assert!(refusal(cluster.certificate(&leaked.chain, 2)).contains("revoked: lost laptop"));
    assert!(refusal(cluster.certificate(&leaked.chain, 3)).contains("revoked"), "and again");
    assert_eq!(known(cluster.certificate(&renewed.chain, 2)).name, "jane", "the user has not been shut out");
}

#[test]
fn an_expired_ca_vouches_for_nobody() {
    let cluster = Cluster::new();
    let years = 11 * 365 * 24;
    let issued =
        cluster.keys.client_certificate("jane", &[], at(0), SignedDuration::from_hours(years)).expect("issued");
    refusal(cluster.certificate(&issued.chain, years * 3600 - 10));
}

#[test]
fn foreign_and_misused_certificates_are_refused() {
    let cluster = Cluster::new();
    let foreign = ClusterKeys::create(at(0)).expect("keys");
    let sans = [San::host("10.0.0.1")];
    let server = Subject { common_name: "system:admin", sans: &sans, server: true, ..Subject::default() };
    let cases = [
        ("another cluster's client CA", foreign.admin_certificate(at(0)).expect("issued").chain),
        ("our server CA", cluster.keys.serving_certificate("s1", &sans, "cluster.local", at(0)).expect("issued").chain),
        ("our peer CA", cluster.keys.peer_certificate("s1", &sans, at(0)).expect("issued").chain),
        ("serverAuth from the client CA", cluster.keys.client_ca.issue(&server, at(0), HOUR).expect("issued").chain),
        ("the CA's own certificate", cluster.keys.client_ca.certificate_pem()),
        (
            "no common name",
            cluster.keys.client_certificate("", &["system:masters"], at(0), HOUR).expect("issued").chain,
        ),
        ("a NUL in the name", cluster.keys.client_certificate("a\0b", &[], at(0), HOUR).expect("issued").chain),
    ];
    for (what, chain) in cases {
        refusal(cluster.certificate(&chain, 1));
        // and the answer does not change when asked again
        assert!(!refusal(cluster.certificate(&chain, 2)).is_empty(), "{what}");
    }
}

#[test]
fn broken_certificates_are_refused() {
    let cluster = Cluster::new();
    let issued = cluster.keys.client_certificate("jane", &["g"], at(0), HOUR).expect("issued");
    let der = certificates(&issued.chain).expect("PEM")[0].to_vec();
    for cut in 0..der.len() {
        refusal(cluster.chain(&[der[..cut].to_vec()], 1));
        let mut flipped = der.clone();
        flipped[cut] ^= 0x01;
        refusal(cluster.chain(&[flipped], 1));
    }
    refusal(cluster.chain(&[der.clone(), b"rubbish".to_vec()], 1));
    known(cluster.chain(&[der], 1));
}

#[test]
fn the_ca_set_changes_while_connections_are_open() {
    let cluster = Cluster::new();
    let next = ClusterKeys::create(at(0)).expect("keys");
    let old = cluster.keys.admin_certificate(at(0)).expect("issued").chain;
    let new = next.admin_certificate(at(0)).expect("issued").chain;
    known(cluster.certificate(&old, 1));
    let both = [cluster.keys.client_ca.trusted(), next.client_ca.trusted()].concat();
    cluster.assembly.x509.set_authorities(&both).expect("set");
    known(cluster.certificate(&old, 1));
    known(cluster.certificate(&new, 1));
    cluster.assembly.x509.set_authorities(next.client_ca.trusted()).expect("set");
    refusal(cluster.certificate(&old, 1));
    known(cluster.certificate(&new, 1));
}

#[test]
fn keys_survive_disk_and_bundle_with_private_modes() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("dir");
    let home = dir.path().join("keys");
    assert!(ClusterKeys::load(&home).expect("empty").is_none());
    let keys = ClusterKeys::create(at(0)).expect("keys");
    keys.save(&home).expect("saved");
    keys.save(&home).expect("saved twice");
    assert_eq!(std::fs::metadata(&home).expect("dir").permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&home).expect("dir") {
        let entry = entry.expect("entry");
        assert_eq!(entry.metadata().expect("file").permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    let loaded = ClusterKeys::load(&home).expect("loaded").expect("complete");
    let bundle = keys.to_bundle().expect("bundle");
    assert_eq!(loaded.to_bundle().expect("bundle"), bundle);
    assert_eq!(ClusterKeys::from_bundle(&bundle).expect("bundle").to_bundle().expect("bundle"), bundle);
    let shown = format!("{keys:?}");
    assert!(!shown.contains("PRIVATE") && shown.contains(&keys.client_ca.fingerprint()));
}

fn openssl(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("openssl").current_dir(dir).args(args).output().expect("openssl runs");
    assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Key options of `openssl req`, subject, extra arguments.
const REQUESTS: &[(&str, &[&str], &str, &[&str])] = &[
    ("p256", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "/O=g1/O=g2/O=g3/CN=jane", &[]),
    ("p384", &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], "/CN=jane/O=g1", &["-sha384"]),
    ("p384-sha256", &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], "/CN=jane/O=g1", &["-sha256"]),
    ("rsa", &["rsa:2048"], "/C=DE/O=g1/CN=jane/emailAddress=j@example.com", &["-sha512"]),
    ("ed25519", &["ed25519"], "/O=g1/CN=jane", &[]),
    ("multi-valued", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "/O=g1+O=g2/CN=jane", &["-multivalue-rdn"]),
    (
        "names",
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "/O=g1/CN=jane",
        &["-addext", "subjectAltName=DNS:a.example,IP:10.1.2.3,IP:fd00::1,email:a@b.c,URI:spiffe://x/y"],
    ),
];

#[test]
fn requests_made_by_openssl_are_signed_as_asked() {
    let cluster = Cluster::new();
    let now = cluster_time();
    let keys = ClusterKeys::create(now).expect("keys");
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(dir.path().join("ca.pem"), keys.client_ca.certificate_pem()).expect("written");
    let usages = Usages::parse(&["digital signature", "key encipherment", "client auth"]).expect("usages");
    cluster.assembly.x509.set_authorities(keys.client_ca.trusted()).expect("set");
    for (what, key, subject, extra) in REQUESTS {
        let mut args =
            vec!["req", "-new", "-nodes", "-keyout", "key.pem", "-out", "csr.pem", "-subj", subject, "-newkey"];
        args.extend_from_slice(key);
        args.extend_from_slice(extra);
        openssl(dir.path(), &args);
        let text = std::fs::read(dir.path().join("csr.pem")).expect("request");
        let request = CertificateRequest::from_pem(&text).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(request.common_name(), Some("jane"), "{what}");
        let pem = request.sign(&keys.client_ca, &usages, now, lifetime(Some(600))).expect("signed");
        std::fs::write(dir.path().join("crt.pem"), &pem).expect("written");
        openssl(dir.path(), &["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.pem", "crt.pem"]);
        let of = |args: &[&str]| openssl(dir.path(), args);
        assert_eq!(
            of(&["x509", "-in", "crt.pem", "-noout", "-pubkey"]),
            of(&["pkey", "-in", "key.pem", "-pubout"]),
            "{what}"
        );
        assert_eq!(
            of(&["x509", "-in", "crt.pem", "-noout", "-subject"]),
            of(&["req", "-in", "csr.pem", "-noout", "-subject"]),
            "{what}"
        );
        let shown = of(&["x509", "-in", "crt.pem", "-noout", "-text"]);
        for name in &request.sans {
            let text = match name {
                San::Dns(t) | San::Email(t) | San::Uri(t) => t.clone(),
                San::Ip(std::net::IpAddr::V4(ip)) => ip.to_string(),
                San::Ip(_) => "FD00:0:0:0:0:0:0:1".into(),
            };
            assert!(shown.contains(&text), "{what}: {text} in {shown}");
        }
        let chain: Vec<Vec<u8>> = certificates(&pem).expect("PEM").iter().map(|d| d.to_vec()).collect();
        let seconds = now.as_second() - crate::support::START;
        let user = known(cluster.chain(&chain, seconds));
        assert_eq!(user.groups.len(), request.organizations.len() + 1, "{what}");
        refusal(cluster.chain(&chain, seconds + 601));
    }
}

/// openssl judges by the machine's clock.
#[expect(clippy::disallowed_methods, reason = "an outside program reads the same clock")]
fn cluster_time() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

#[test]
fn our_own_certificates_please_openssl() {
    let now = cluster_time();
    let keys = ClusterKeys::create(now).expect("keys");
    let dir = tempfile::tempdir().expect("dir");
    let sans = [San::host("10.43.0.1"), San::host("s1")];
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    put("server-ca.pem", &keys.server_ca.certificate_pem());
    put("server.pem", &keys.serving_certificate("s1", &sans, "cluster.local", now).expect("issued").chain);
    for host in ["kubernetes.default.svc.cluster.local", "localhost", "s1"] {
        let args =
            ["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", host, "-CAfile", "server-ca.pem"];
        openssl(dir.path(), &[&args[..], &["server.pem"]].concat());
    }
    let args = ["verify", "-verify_ip", "10.43.0.1", "-CAfile", "server-ca.pem", "server.pem"];
    openssl(dir.path(), &args);
}

#[test]
fn tampered_requests_are_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let args =
        ["req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", "k", "-subj"];
    openssl(dir.path(), &[&args[..], &["/O=dev/CN=jane", "-out", "c.der", "-outform", "DER"]].concat());
    let der = std::fs::read(dir.path().join("c.der")).expect("request");
    let good = CertificateRequest::from_der(&der).expect("good");
    for index in 0..der.len() {
        let mut changed = der.clone();
        changed[index] ^= 0x01;
        // the encoding of the signature has a spare bit or two; what was signed has none
        assert!(CertificateRequest::from_der(&changed).map_or(true, |r| r == good), "byte {index}");
        assert!(CertificateRequest::from_der(&der[..index]).is_err(), "cut at {index}");
    }
    assert!(CertificateRequest::from_der(&[&der[..], &[0]].concat()).is_err(), "trailing byte");
    openssl(dir.path(), &[&args[..], &["/CN=ca", "-out", "ca.pem", "-addext", "basicConstraints=CA:TRUE"]].concat());
    let ca = std::fs::read(dir.path().join("ca.pem")).expect("request");
    assert!(CertificateRequest::from_pem(&ca).is_err(), "asks to be a CA");
}

/// Subject, SANs, signer, usages, asker, signed?, approved by itself?
type SignerCase =
    (&'static str, &'static str, &'static str, &'static [&'static str], &'static str, bool, Option<NodeApproval>);

const SIGNERS: &[SignerCase] = &[
    (
        "/O=system:nodes/CN=system:node:n1",
        "",
        "kube-apiserver-client-kubelet",
        CLIENT,
        "system:bootstrap:abcdef",
        true,
        Some(NodeApproval::NodeClient),
    ),
    (
        "/O=system:nodes/CN=system:node:n1",
        "",
        "kube-apiserver-client-kubelet",
        CLIENT,
        "system:node:n1",
        true,
        Some(NodeApproval::SelfNodeClient),
    ),
    // a node asks for another node's identity
    ("/O=system:nodes/CN=system:node:n2", "", "kube-apiserver-client-kubelet", CLIENT, "system:node:n1", true, None),
    (
        "/O=system:masters/CN=system:node:n1",
        "",
        "kube-apiserver-client-kubelet",
        CLIENT,
        "system:bootstrap:abcdef",
        false,
        None,
    ),
    (
        "/O=system:nodes/O=system:masters/CN=system:node:n1",
        "",
        "kube-apiserver-client-kubelet",
        CLIENT,
        "x",
        false,
        None,
    ),
    (
        "/O=system:nodes+O=system:masters/CN=system:node:n1",
        "",
        "kube-apiserver-client-kubelet",
        CLIENT,
        "x",
        false,
        None,
    ),
    ("/O=system:nodes/CN=system:node:", "", "kube-apiserver-client-kubelet", CLIENT, "x", false, None),
    (
        "/O=system:nodes/CN=system:node:n1/CN=system:node:n2",
        "",
        "kube-apiserver-client-kubelet",
        CLIENT,
        "x",
        false,
        None,
    ),
    ("/O=system:nodes/CN=jane", "", "kube-apiserver-client-kubelet", CLIENT, "x", false, None),
    ("/O=system:nodes/CN=system:node:n1", "DNS:kubernetes", "kube-apiserver-client-kubelet", CLIENT, "x", false, None),
    ("/O=system:nodes/CN=system:node:n1", "", "kube-apiserver-client-kubelet", SERVER, "x", false, None),
    (
        "/O=system:nodes/CN=system:node:n1",
        "DNS:n1,IP:10.0.0.1",
        "kubelet-serving",
        SERVER,
        "system:node:n1",
        true,
        None,
    ),
    ("/O=system:nodes/CN=system:node:n1", "", "kubelet-serving", SERVER, "system:node:n1", false, None),
    ("/O=system:nodes/CN=system:node:n1", "DNS:n1,URI:spiffe://a", "kubelet-serving", SERVER, "x", false, None),
    ("/O=system:nodes/CN=system:node:n1", "DNS:n1", "kubelet-serving", CLIENT, "x", false, None),
    ("/O=dev/CN=jane", "", "kube-apiserver-client", CLIENT, "x", true, None),
    ("/O=dev/CN=jane", "", "kube-apiserver-client", SERVER, "x", false, None),
    ("/O=dev/CN=jane", "", "kube-apiserver-client", &["client auth", "cert sign"], "x", false, None),
    ("/O=dev/CN=jane", "DNS:a", "legacy-unknown", SERVER, "x", true, None),
];
const CLIENT: &[&str] = &["digital signature", "client auth"];
const SERVER: &[&str] = &["digital signature", "key encipherment", "server auth"];

#[test]
fn signers_sign_and_approve_only_what_is_theirs() {
    let dir = tempfile::tempdir().expect("dir");
    for case @ (subject, sans, signer, usages, asker, signs, approval) in SIGNERS {
        let names = format!("subjectAltName={sans}");
        let mut args = vec!["req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        args.extend(["-keyout", "k", "-out", "c", "-multivalue-rdn", "-subj", subject]);
        if !sans.is_empty() {
            args.extend(["-addext", &names]);
        }
        openssl(dir.path(), &args);
        let request = CertificateRequest::from_pem(&std::fs::read(dir.path().join("c")).expect("file")).expect("good");
        let signer = Signer::from_name(&format!("kubernetes.io/{signer}")).expect("a signer");
        let usages: Vec<String> = usages.iter().map(|u| (*u).to_owned()).collect();
        let groups = if asker.starts_with("system:node:") { vec!["system:nodes".to_owned()] } else { Vec::new() };
        let asker = UserInfo { name: (*asker).to_owned(), groups, ..UserInfo::default() };
        assert_eq!(signer.check(&request, &usages).is_ok(), *signs, "{case:?}");
        assert_eq!(signer.approval(&request, &usages, &asker), *approval, "{case:?}");
    }
    assert_eq!(Signer::from_name("example.com/custom"), None);
}
