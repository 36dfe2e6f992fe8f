//! A cluster that was off for longer than its certificates lived: it is founded in the past, turned off, and
//! turned on today. Servers, nodes, the administrator and the pods' accounts must all find back by themselves.

use super::clock::build;
use super::cluster::{Cluster, Wanted};
use super::leftovers::Inventory;
use anyhow::{Result, ensure};

/// The cluster lives this long ago; certificates live for a year.
const PAST: &str = "-9600h";

pub(super) fn run() -> Result<()> {
    let program = build()?;
    let before = Inventory::take()?;
    let wanted = Wanted { program, clock_offset: PAST.to_owned(), servers: 3, ..Wanted::new("power-off")? };
    let mut cluster = Cluster::create_with(wanted)?;
    cluster.apply(POD)?;
    cluster.patiently("a running pod", || cluster.kubectl(&["wait", "pod/client", "--for=condition=Ready"]))?;
    println!("    400 days ago: a pod runs");
    cluster.off_and_on("0s")?;
    println!("    today: servers and nodes are ready");
    cluster.patiently("nodes", || cluster.kubectl(&["wait", "node", "--all", "--for=condition=Ready"]))?;
    cluster.patiently("a way into the pod", || cluster.kubectl(&["exec", "client", "--", "true"]))?;
    cluster.patiently("a new token for the pod", || {
        let token = cluster.kubectl(&["exec", "client", "--", "cat", TOKEN])?;
        let nobody = ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", &server(&cluster)?];
        let asked = cluster.kubectl(&[&["auth", "whoami", "--token", token.trim()], &nobody[..]].concat())?;
        ensure!(asked.contains(ACCOUNT), "{asked}");
        Ok(())
    })?;
    println!("    the pod's account is known by its new token");
    drop(cluster);
    before.nothing_new()
}

const ACCOUNT: &str = "system:serviceaccount:default:default";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: client }
spec:
  containers: [{ name: c, image: kybern.local/web:1, command: [/bin/sleep, \"100000\"] }]
";

fn server(cluster: &Cluster) -> Result<String> {
    cluster.kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"])
}
