//! `kybern doctor --security`: what a hardening guide asks of a server, checked on the running one.
//!
//! Facts are gathered first, then judged without looking at the machine again: [`judge`] is a table.

use super::identity::{allowed, keys_of, lifetime, list, status_of_stranger};
use crate::cli::DoctorArgs;
use anyhow::{Result, bail};
use kybern_api::seam::{Clock, SystemClock};
use kybern_client::transport::Resource;
use serde_json::Value;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Runs `kybern doctor`.
///
/// # Errors
/// When a check fails, or the server cannot be looked at.
pub fn run(args: DoctorArgs) -> Result<()> {
    if !args.security {
        bail!("say what to look at: --security");
    }
    let findings = judge(&gather(&args)?);
    let failed = findings.iter().filter(|f| f.wrong.is_some()).count();
    for Finding { id, what, wrong } in findings {
        match wrong {
            None => println!("pass  {id:<12} {what}"),
            Some(wrong) => println!("FAIL  {id:<12} {what}: {wrong}"),
        }
    }
    if failed > 0 { bail!("{failed} checks failed") } else { Ok(()) }
}

/// What was found on the machine and in the cluster.
struct Facts {
    /// Files and directories with their mode and owner.
    modes: Vec<(PathBuf, u32, u32)>,
    audit_log: bool,
    fingerprints: Vec<String>,
    expires_soon: Vec<String>,
    /// The code that a request without credentials gets, of an API path.
    stranger: u16,
    /// What those who should not may do.
    too_much: Vec<String>,
    /// ClusterRoleBindings of cluster-admin, and to whom.
    admins: Vec<(String, String)>,
}

/// One check.
struct Finding {
    /// Its numbers in the CIS benchmark.
    id: &'static str,
    what: &'static str,
    /// None: it passes. Otherwise what is wrong, and the remedy.
    wrong: Option<String>,
}

fn gather(args: &DoctorArgs) -> Result<Facts> {
    let (keys, config) = (keys_of(&args.data_dir)?, args.kubeconfig.as_path());
    let soon = SystemClock::default().now().saturating_add(lifetime("90d")?)?;
    let cas = keys.authorities();
    let strangers = [
        ("system:anonymous", "system:unauthenticated", "list", "secrets"),
        ("somebody", "system:authenticated", "list", "secrets"),
        ("somebody", "system:authenticated", "create", "pods"),
        ("system:serviceaccount:default:default", "system:serviceaccounts", "list", "secrets"),
        ("system:serviceaccount:default:default", "system:serviceaccounts", "create", "pods"),
    ];
    let mut too_much = Vec::new();
    for (user, group, verb, resource) in strangers {
        if allowed(config, user, group, verb, resource)? {
            too_much.push(format!("{user} may {verb} {resource}"));
        }
    }
    let bindings = list(config, &Resource::new("rbac.authorization.k8s.io", "v1", "clusterrolebindings"))?;
    Ok(Facts {
        modes: modes(&args.data_dir, config)?,
        audit_log: args.data_dir.join("server/audit/audit.log").exists(),
        fingerprints: cas.iter().map(|(_, ca)| ca.fingerprint()).collect(),
        expires_soon: cas.iter().filter(|(_, ca)| ca.not_after() < soon).map(|(n, _)| (*n).to_owned()).collect(),
        stranger: status_of_stranger(config, &keys)?,
        too_much,
        admins: bindings.iter().flat_map(admins).collect(),
    })
}

/// Everything below the servers' directory that holds keys, the data directory and the kubeconfig.
fn modes(data_dir: &Path, kubeconfig: &Path) -> Result<Vec<(PathBuf, u32, u32)>> {
    let mut paths = vec![data_dir.join("server/tls"), data_dir.join("server/store"), kubeconfig.to_owned()];
    for entry in std::fs::read_dir(data_dir.join("server/tls"))? {
        paths.push(entry?.path());
    }
    paths
        .into_iter()
        .map(|path| {
            let meta = std::fs::metadata(&path)?;
            Ok((path, meta.permissions().mode() & 0o777, meta.uid()))
        })
        .collect()
}

/// Who is bound to cluster-admin by this binding.
fn admins(binding: &Value) -> Vec<(String, String)> {
    if binding["roleRef"]["name"] != "cluster-admin" {
        return Vec::new();
    }
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let subjects = binding["subjects"].as_array().into_iter().flatten();
    subjects.map(|s| (text(&binding["metadata"]["name"]), text(&s["name"]))).collect()
}

fn judge(f: &Facts) -> Vec<Finding> {
    let wrong = |list: Vec<String>, remedy: &str| (!list.is_empty()).then(|| format!("{}; {remedy}", list.join(", ")));
    let open = f.modes.iter().filter(|(_, mode, uid)| mode & 0o077 != 0 || *uid != 0);
    let open = open.map(|(path, mode, uid)| format!("{} has mode {mode:o} and owner {uid}", path.display())).collect();
    let mut distinct = f.fingerprints.clone();
    distinct.sort();
    distinct.dedup();
    let others = f.admins.iter().filter(|(_, subject)| subject != "system:masters");
    let others = others.map(|(binding, subject)| format!("{binding} gives it to {subject}")).collect();
    vec![
        Finding {
            id: "1.1, 4.1",
            what: "keys, store and kubeconfig are for root alone",
            wrong: wrong(open, "chmod go= and chown root"),
        },
        Finding {
            id: "1.2.1",
            what: "requests without credentials are refused",
            wrong: (f.stranger != 401).then(|| format!("one was answered with {}; report this", f.stranger)),
        },
        Finding {
            id: "1.2.6-8",
            what: "nobody may do what no role gives",
            wrong: wrong(f.too_much.clone(), "delete the binding that `kybern auth why` names"),
        },
        Finding {
            id: "1.2.16-19",
            what: "the audit log is on",
            wrong: (!f.audit_log).then(|| {
                "there is no server/audit/audit.log; leave out --audit-log-path none (or it lies elsewhere)".to_owned()
            }),
        },
        Finding {
            id: "2.7",
            what: "clients, servers and peers have CAs of their own",
            wrong: (distinct.len() != f.fingerprints.len())
                .then(|| "two are the same; found the cluster anew".to_owned()),
        },
        Finding {
            id: "-",
            what: "no CA expires within 90 days",
            wrong: wrong(f.expires_soon.clone(), "`kybern certificate rotate-ca`"),
        },
        Finding {
            id: "5.1.1",
            what: "cluster-admin is bound to system:masters alone",
            wrong: wrong(others, "bind a narrower role"),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good() -> Facts {
        Facts {
            modes: vec![("/k".into(), 0o600, 0), ("/d".into(), 0o700, 0)],
            audit_log: true,
            fingerprints: vec!["a".into(), "b".into(), "c".into()],
            expires_soon: Vec::new(),
            stranger: 401,
            too_much: Vec::new(),
            admins: vec![("cluster-admin".into(), "system:masters".into())],
        }
    }

    fn failures(facts: &Facts) -> Vec<String> {
        judge(facts).into_iter().filter_map(|f| f.wrong.map(|w| format!("{} {w}", f.id))).collect()
    }

    #[test]
    fn each_fault_fails_its_own_check_and_names_itself() {
        assert_eq!(failures(&good()), Vec::<String>::new());
        let cases: [(Facts, &str); 8] = [
            (Facts { modes: vec![("/k".into(), 0o640, 0)], ..good() }, "1.1, 4.1 /k has mode 640"),
            (Facts { modes: vec![("/k".into(), 0o600, 1000)], ..good() }, "1.1, 4.1 /k has mode 600 and owner 1000"),
            (Facts { stranger: 200, ..good() }, "1.2.1 one was answered with 200"),
            (Facts { too_much: vec!["x may list secrets".into()], ..good() }, "1.2.6-8 x may list secrets"),
            (Facts { audit_log: false, ..good() }, "1.2.16-19 there is no"),
            (Facts { fingerprints: vec!["a".into(), "a".into()], ..good() }, "2.7 two are the same"),
            (Facts { expires_soon: vec!["peer".into()], ..good() }, "- peer"),
            (Facts { admins: vec![("b".into(), "ann".into())], ..good() }, "5.1.1 b gives it to ann"),
        ];
        for (facts, wanted) in cases {
            let found = failures(&facts);
            assert!(found.len() == 1 && found[0].starts_with(wanted), "{found:?}, not {wanted}");
        }
    }

    #[test]
    fn only_bindings_of_cluster_admin_make_administrators() {
        let binding = |role: &str| json!({"metadata": {"name": "b"}, "roleRef": {"name": role}, "subjects": [{"name": "ann"}, {"name": "bob"}]});
        assert!(admins(&binding("view")).is_empty());
        assert_eq!(admins(&binding("cluster-admin")).len(), 2);
    }
}
