//! Clients of others, as programs: the Python client and the `kube` crate each list, watch, patch, apply and
//! execute. A client that is not there is skipped.

use kybern_e2e::{Namespace, shell};
use std::process::Command;

/// Runs a client program on a namespace with a pod; what it said was done.
fn done(program: &str, leading: &[&str], prefix: &str) -> Vec<String> {
    let ns = Namespace::new(prefix);
    ns.apply(&shell("runner", "echo started; sleep 600"));
    ns.ready("runner");
    let output = Command::new(program).args(leading).args([ns.name(), "runner"]).output().expect(program);
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program}: {said}{failed}");
    said.lines().map(str::to_owned).collect()
}

#[test]
fn the_python_client_works_as_everywhere() {
    let Ok(python) = std::env::var("KYBERN_PYTHON") else {
        eprintln!("skipped: KYBERN_PYTHON names no Python with the client");
        return;
    };
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python/client.py");
    assert_eq!(
        done(&python, &[program], "python"),
        ["ok lists", "ok watches", "ok patches", "ok applies", "ok executes"]
    );
}

#[test]
fn the_kube_crate_works_as_everywhere() {
    let Ok(program) = std::env::var("KYBERN_KUBE_CLIENT") else {
        eprintln!("skipped: KYBERN_KUBE_CLIENT names no program");
        return;
    };
    assert_eq!(done(&program, &[], "kube"), ["ok list", "ok watch", "ok patch", "ok apply", "ok exec"]);
}
