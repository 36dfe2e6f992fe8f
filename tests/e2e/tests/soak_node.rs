//! Long runs on a node, on demand (`-- --ignored`, `CYCLES=1000`): nothing is left of pods that came and
//! went; whatever is killed meanwhile, every pod ends in the right state.

use kybern_e2e::{Namespace, ensure, eventually, shell, within};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const AT_ONCE: usize = 10;

fn cycles(usual: usize) -> usize {
    std::env::var("CYCLES").ok().and_then(|c| c.parse().ok()).unwrap_or(usual)
}

/// The dev cluster's first node: where its files are. None on a foreign cluster.
struct Node {
    data: PathBuf,
    run: PathBuf,
    cluster: String,
}

impl Node {
    fn first() -> Option<Self> {
        let cluster = std::env::var("KYBERN_NAME").ok()?;
        let of = |base: &str| Path::new(base).join("kybern/dev").join(&cluster).join("node-1");
        Some(Self { data: of("/var/lib"), run: of("/run"), cluster })
    }

    /// Counts of what pods need on the machine.
    fn holdings(&self) -> BTreeMap<&'static str, usize> {
        let entries = |dir: &Path| std::fs::read_dir(dir).map_or(0, |d| d.count());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let ours = |line: &&str| {
            [&self.data, &self.run].iter().any(|d| line.contains(d.to_str().expect("UTF-8")))
                && !line.contains("/netns ")
        };
        let links =
            Command::new("ip").args(["-o", "link"]).output().map_or(0, |o| o.stdout.split(|b| *b == b'\n').count());
        BTreeMap::from([
            ("mounts", mounts.lines().filter(ours).count()),
            ("pod directories", entries(&self.data.join("pods"))),
            ("log directories", entries(&self.data.join("logs"))),
            ("network namespaces", entries(&self.run.join("containerd/io.containerd.grpc.v1.cri/netns"))),
            ("addresses", entries(&self.data.join("cni/addresses/addresses"))),
            ("shims", entries(&self.run.join("containerd/io.containerd.runtime.v2.task/k8s.io"))),
            ("cgroups", self.cgroups()),
            ("links of this machine", links),
        ])
    }

    fn cgroups(&self) -> usize {
        let below = |root: &Path| {
            let kubepods = root.join("kybern").join(&self.cluster).join("node-1/kubepods");
            ["", "burstable", "besteffort"]
                .iter()
                .flat_map(|class| std::fs::read_dir(kubepods.join(class)).into_iter().flatten().flatten())
                .filter(|e| e.file_name().to_string_lossy().starts_with("pod"))
                .count()
        };
        let roots = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path());
        roots.chain([PathBuf::from("/sys/fs/cgroup")]).map(|r| below(&r)).sum()
    }

    fn containerd(&self) -> Option<i32> {
        std::fs::read_to_string(self.run.join("containerd.pid")).ok()?.trim().parse().ok()
    }

    /// Process ids of the node's shims.
    fn shims(&self) -> Vec<i32> {
        let socket = self.run.join("containerd.sock").display().to_string();
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let is_shim = |pid: &i32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&command).into_owned();
            text.contains("containerd-shim") && text.contains(&socket)
        };
        entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(is_shim).collect()
    }
}

fn kill(pid: i32) {
    // One that is gone already is as good as killed.
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
}

#[test]
#[ignore = "takes minutes: run on demand"]
fn pods_that_come_and_go_leave_nothing() {
    let Some(node) = Node::first() else { return eprintln!("skipped: needs a dev cluster") };
    let ns = Namespace::new("leaks");
    ns.apply(&shell("warm-up", "exit 0"));
    ns.say(&["delete", "pod", "warm-up"]);
    let before = node.holdings();
    for round in 0..cycles(200) / AT_ONCE {
        let pod = |n: usize| {
            let volumes = "  volumes: [{ name: v, emptyDir: { medium: Memory } }, { name: w, emptyDir: {} }]\n";
            let mounts = "\n    volumeMounts: [{ name: v, mountPath: /v }, { name: w, mountPath: /w }]\n";
            let manifest = shell(&format!("p{round}-{n}"), "trap exit TERM; while :; do sleep 0.1; done");
            format!("---{}{mounts}{volumes}", manifest.trim_end())
        };
        ns.apply(&(0..AT_ONCE).map(pod).collect::<String>());
        ns.say(&["wait", "pod", "--all", "--for=condition=Ready", "--timeout=120s"]);
        ns.say(&["delete", "pod", "--all"]);
    }
    within("everything is given back", Duration::from_secs(60), || {
        let after = node.holdings();
        ensure(after == before, || format!("before: {before:?}\nafter: {after:?}"))
    });
}

/// A small generator (xorshift), so that a run can be told apart by its seed.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 33).expect("31 bits")
}

#[test]
#[ignore = "takes minutes: run on demand"]
fn every_pod_ends_rightly_while_things_are_killed() {
    let Some(node) = Node::first() else { return eprintln!("skipped: needs a dev cluster") };
    let program = std::env::var("KYBERN").expect("KYBERN");
    let mut seed = u64::from(std::process::id()) | 1;
    println!("seed {seed}");
    let ns = Namespace::new("killed");
    let count = cycles(200);
    for round in 0..count / AT_ONCE {
        // OnFailure: a container whose shim is killed is run again, and must succeed in the end.
        let pod = |n: usize| {
            let manifest = shell(&format!("p{round}-{n}"), "sleep 1; exit 0");
            format!("---{}", manifest.replace("restartPolicy: Never", "restartPolicy: OnFailure"))
        };
        ns.apply(&(0..AT_ONCE).map(pod).collect::<String>());
        std::thread::sleep(Duration::from_millis(next(&mut seed) as u64 % 1500));
        match next(&mut seed) % 3 {
            0 => {
                let args = ["dev", "kill", "node-1", "--name", node.cluster.as_str()];
                assert!(Command::new(&program).args(args).status().expect("kybern dev kill").success());
            }
            1 => node.containerd().into_iter().for_each(kill),
            _ => {
                let shims = node.shims();
                if !shims.is_empty() {
                    kill(shims[next(&mut seed) % shims.len()]);
                }
            }
        }
        within("every pod has succeeded", Duration::from_secs(240), || {
            let phases = ns.path(&["pods"], "{range .items[*]}{.metadata.name}={.status.phase} {end}")?;
            let bad: Vec<&str> = phases.split_whitespace().filter(|p| !p.ends_with("=Succeeded")).collect();
            ensure(bad.is_empty(), || format!("{bad:?}"))
        });
        ns.say(&["delete", "pod", "--all"]);
    }
    eventually("nothing is left", || {
        let held = node.holdings();
        ensure(held["pod directories"] == 0 && held["cgroups"] == 0, || format!("{held:?}"))
    });
}
