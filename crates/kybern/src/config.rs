//! Configuration: flags over the file over defaults, checked, as typed values per role.

mod admission;
mod outside;

pub use outside::Outside;

use crate::cli::{AgentArgs, ServerArgs};
use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use kybern_apiserver::audit::{LogSettings, Policy};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// The configuration file: the flags' names as keys.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    cluster_init: bool,
    server: Option<String>,
    token: Option<String>,
    agent_token: Option<String>,
    data_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    node_name: Option<String>,
    node_ip: Option<IpAddr>,
    https_listen_port: Option<u16>,
    peer_port: Option<u16>,
    tls_san: Vec<String>,
    cluster_cidr: Option<String>,
    service_cidr: Option<String>,
    write_kubeconfig: Option<PathBuf>,
    kube_scheduler_config: Option<PathBuf>,
    authentication_config: Option<PathBuf>,
    authentication_token_webhook_config_file: Option<PathBuf>,
    authentication_token_webhook_cache_ttl: Option<String>,
    enable_admission_plugins: Vec<String>,
    disable_admission_plugins: Vec<String>,
    admission_control_config_file: Option<PathBuf>,
    audit_webhook_config_file: Option<PathBuf>,
    audit_policy_file: Option<PathBuf>,
    audit_log_path: Option<PathBuf>,
    audit_log_maxage: Option<u32>,
    audit_log_maxbackup: Option<u32>,
    audit_log_maxsize: Option<u32>,
    node_label: Vec<String>,
    node_taint: Vec<String>,
    cgroup_root: Option<String>,
    runtime_endpoint: Option<PathBuf>,
    upstream_dns: Vec<String>,
    private_registry: Option<PathBuf>,
    allowed_unsafe_sysctls: Vec<String>,
    pod_manifest_path: Option<PathBuf>,
    system_reserved: Vec<String>,
    eviction_hard: Vec<String>,
    image_gc_high_threshold: Option<u8>,
    image_gc_low_threshold: Option<u8>,
    offline_restart: bool,
    disable: Vec<String>,
    ingress_http_port: Option<u16>,
    ingress_https_port: Option<u16>,
    otlp_endpoint: Option<String>,
    debug: bool,
}

/// Built-in parts that can be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The Ingress proxy.
    Ingress,
    /// Image content from other nodes.
    ImageSharing,
}

/// What a server needs to know.
#[derive(Debug, Clone)]
pub struct Server {
    /// The cluster to join; None: begin one.
    pub join: Option<String>,
    /// Join token (of this server, or for others on the first).
    pub token: Option<String>,
    /// Token for nodes, on the first server.
    pub agent_token: Option<String>,
    /// Data directory.
    pub data_dir: PathBuf,
    /// Name of this server.
    pub name: String,
    /// Address others reach it at.
    pub address: Ipv4Addr,
    /// Port of the API.
    pub api_port: u16,
    /// Port of the replication traffic.
    pub peer_port: u16,
    /// Further names for the certificate.
    pub sans: Vec<String>,
    /// Pod addresses.
    pub cluster_cidr: Ipv4Net,
    /// Service addresses.
    pub service_cidr: Ipv4Net,
    /// Where the administrator's kubeconfig goes.
    pub kubeconfig: PathBuf,
    /// The scheduler's profiles.
    pub scheduler: kybern_scheduler::Settings,
    /// Which admission plugins run.
    pub admission: kybern_admission::Switches,
    /// Who else knows users, or is told.
    pub outside: Outside,
    /// Which requests are written down, and where.
    pub audit: Option<(Policy, LogSettings)>,
    /// What the cluster does without.
    pub disabled: Vec<Part>,
}

/// What an agent needs to know.
#[derive(Debug, Clone)]
pub struct Agent {
    /// A server to join.
    pub server: String,
    /// Join token; not needed once the node has its certificate.
    pub token: Option<String>,
    /// Data directory.
    pub data_dir: PathBuf,
    /// Sockets and mounts.
    pub run_dir: PathBuf,
    /// Node name.
    pub name: String,
    /// Node address.
    pub address: Ipv4Addr,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// Taints as written.
    pub taints: Vec<String>,
    /// Cgroup below which pods run.
    pub cgroup_root: String,
    /// An external CRI socket.
    pub runtime_endpoint: Option<PathBuf>,
    /// Servers for names outside the cluster; None: the machine's own. Empty: there are none.
    pub upstream_dns: Option<Vec<IpAddr>>,
    /// Registry settings.
    pub registries: PathBuf,
    /// Sysctls that pods may set besides the safe ones.
    pub unsafe_sysctls: Vec<String>,
    /// Directory of static pods.
    pub manifests: PathBuf,
    /// What pods do not get: resource and quantity.
    pub reserved: Vec<(String, String)>,
    /// Eviction thresholds as written; empty: the usual ones.
    pub eviction_hard: Vec<String>,
    /// Above which share of the disk in use images are removed, and until below which; in percent.
    pub image_gc: (u8, u8),
    /// Do pods start again after a reboot while no server can be reached?
    pub offline_restart: bool,
    /// Pod addresses of the whole cluster.
    pub cluster_cidr: Ipv4Net,
    /// Service addresses.
    pub service_cidr: Ipv4Net,
    /// Ports of Ingress over plain HTTP and TLS.
    pub ingress_ports: (u16, u16),
    /// What this node does without.
    pub disabled: Vec<Part>,
}

impl Server {
    /// Merges flags, file and defaults.
    ///
    /// # Errors
    /// One line naming the key and what is wrong with it.
    pub fn resolve(args: ServerArgs) -> Result<Self> {
        let file = read(&args.config)?;
        let join = args.server.or(file.server);
        if join.is_some() && (args.cluster_init || file.cluster_init) {
            bail!("--cluster-init and --server exclude each other: a server begins a cluster or joins one");
        }
        if join.is_some() && args.token.is_none() && file.token.is_none() {
            bail!("--server needs --token: make one on a running server with `kybern token create --role server`");
        }
        let data_dir = args.data_dir.or(file.data_dir).unwrap_or_else(|| "/var/lib/kybern".into());
        let log = AuditLog {
            policy: args.audit_policy_file.or(file.audit_policy_file),
            path: args.audit_log_path.or(file.audit_log_path),
            days: args.audit_log_maxage.or(file.audit_log_maxage),
            backups: args.audit_log_maxbackup.or(file.audit_log_maxbackup),
            megabytes: args.audit_log_maxsize.or(file.audit_log_maxsize),
        };
        let others = outside::Given {
            issuers: args.authentication_config.or(file.authentication_config),
            webhook: args.authentication_token_webhook_config_file.or(file.authentication_token_webhook_config_file),
            ttl: args.authentication_token_webhook_cache_ttl.or(file.authentication_token_webhook_cache_ttl),
            audit: args.audit_webhook_config_file.or(file.audit_webhook_config_file),
        };
        let admission = admission::switches(
            both(args.enable_admission_plugins, file.enable_admission_plugins),
            both(args.disable_admission_plugins, file.disable_admission_plugins),
            args.admission_control_config_file.or(file.admission_control_config_file).as_deref(),
        )?;
        let outside = outside::resolve(others)?;
        let audit = audit(log, &data_dir)?;
        if outside.audit.is_some() && audit.is_none() {
            bail!("--audit-webhook-config-file: needs the audit log; leave out --audit-log-path none");
        }
        let mut sans = args.tls_san;
        sans.extend(file.tls_san);
        Ok(Self {
            join,
            token: args.token.or(file.token),
            agent_token: args.agent_token.or(file.agent_token),
            name: node_name(args.node_name.or(file.node_name))?,
            address: own_address(args.node_ip.or(file.node_ip))?,
            api_port: args.https_listen_port.or(file.https_listen_port).unwrap_or(6443),
            peer_port: args.peer_port.or(file.peer_port).unwrap_or(2380),
            sans,
            cluster_cidr: cidr("cluster-cidr", args.cluster_cidr.or(file.cluster_cidr), "10.42.0.0/16")?,
            service_cidr: cidr("service-cidr", args.service_cidr.or(file.service_cidr), "10.43.0.0/16")?,
            kubeconfig: args
                .write_kubeconfig
                .or(file.write_kubeconfig)
                .unwrap_or_else(|| "/etc/kybern/kybern.yaml".into()),
            scheduler: scheduler(args.kube_scheduler_config.or(file.kube_scheduler_config))?,
            admission,
            outside,
            audit,
            disabled: parts(&both(args.disable, file.disable))?,
            data_dir,
        })
    }
}

impl Agent {
    /// Merges flags, file and defaults.
    ///
    /// # Errors
    /// One line naming the key and what is wrong with it.
    pub fn resolve(args: AgentArgs) -> Result<Self> {
        let file = read(&args.config)?;
        let server = args
            .server
            .or(file.server)
            .context("--server is missing: the address of a server of the cluster, https://HOST:6443")?;
        if !server.starts_with("https://") {
            bail!("--server {server}: must begin with https://");
        }
        let mut labels = Vec::new();
        for l in args.node_label.into_iter().chain(file.node_label) {
            let (k, v) = l.split_once('=').with_context(|| format!("--node-label {l}: must be key=value"))?;
            labels.push((k.to_owned(), v.to_owned()));
        }
        let data_dir = args.data_dir.or(file.data_dir).unwrap_or_else(|| "/var/lib/kybern".into());
        let mut reserved = Vec::new();
        for r in both(args.system_reserved, file.system_reserved) {
            let (k, v) =
                r.split_once('=').with_context(|| format!("--system-reserved {r}: must be resource=quantity"))?;
            reserved.push((k.to_owned(), v.to_owned()));
        }
        Ok(Self {
            server,
            token: args.token.or(file.token),
            upstream_dns: upstream_dns(&both(args.upstream_dns, file.upstream_dns))?,
            registries: args
                .private_registry
                .or(file.private_registry)
                .unwrap_or_else(|| "/etc/kybern/registries.yaml".into()),
            unsafe_sysctls: both(args.allowed_unsafe_sysctls, file.allowed_unsafe_sysctls),
            manifests: args
                .pod_manifest_path
                .or(file.pod_manifest_path)
                .unwrap_or_else(|| data_dir.join("pod-manifests")),
            reserved,
            eviction_hard: both(args.eviction_hard, file.eviction_hard),
            image_gc: image_gc(
                args.image_gc_high_threshold.or(file.image_gc_high_threshold),
                args.image_gc_low_threshold.or(file.image_gc_low_threshold),
            )?,
            offline_restart: args.offline_restart || file.offline_restart,
            data_dir,
            run_dir: args.run_dir.or(file.run_dir).unwrap_or_else(|| "/run/kybern".into()),
            name: node_name(args.node_name.or(file.node_name))?,
            address: own_address(args.node_ip.or(file.node_ip))?,
            labels,
            taints: both(args.node_taint, file.node_taint),
            cgroup_root: args.cgroup_root.or(file.cgroup_root).unwrap_or_else(|| "kybern".into()),
            runtime_endpoint: args.runtime_endpoint.or(file.runtime_endpoint),
            cluster_cidr: cidr("cluster-cidr", args.cluster_cidr.or(file.cluster_cidr), "10.42.0.0/16")?,
            service_cidr: cidr("service-cidr", args.service_cidr.or(file.service_cidr), "10.43.0.0/16")?,
            ingress_ports: (
                args.ingress_http_port.or(file.ingress_http_port).unwrap_or(80),
                args.ingress_https_port.or(file.ingress_https_port).unwrap_or(443),
            ),
            disabled: parts(&both(args.disable, file.disable))?,
        })
    }
}

fn parts(names: &[String]) -> Result<Vec<Part>> {
    let part = |name: &String| match name.as_str() {
        "ingress" => Ok(Part::Ingress),
        "image-sharing" => Ok(Part::ImageSharing),
        _ => bail!("--disable {name}: must be ingress or image-sharing"),
    };
    names.iter().map(part).collect()
}

/// What the flags say, then what the file says.
fn both(mut flags: Vec<String>, file: Vec<String>) -> Vec<String> {
    flags.extend(file);
    flags
}

fn image_gc(high: Option<u8>, low: Option<u8>) -> Result<(u8, u8)> {
    let high = high.unwrap_or(85);
    let low = low.unwrap_or(high.min(85).saturating_sub(5));
    if high > 100 || low > high {
        bail!("--image-gc-high-threshold {high}: must be at most 100, and --image-gc-low-threshold {low} at most that");
    }
    Ok((high, low))
}

/// None: nothing is said.
fn upstream_dns(given: &[String]) -> Result<Option<Vec<IpAddr>>> {
    if given.is_empty() {
        return Ok(None);
    }
    let servers = given.iter().filter(|a| *a != "none");
    let parse = |a: &String| a.parse().with_context(|| format!("--upstream-dns {a}: must be an address or none"));
    servers.map(parse).collect::<Result<_>>().map(Some)
}

fn read(path: &Path) -> Result<File> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).with_context(|| path.display().to_string()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn parse(text: &str) -> Result<File> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    Ok(serde_saphyr::from_str(text)?)
}

/// The scheduler's settings: a file that is named has to be there.
fn scheduler(path: Option<PathBuf>) -> Result<kybern_scheduler::Settings> {
    let Some(path) = path else { return Ok(kybern_scheduler::Settings::default()) };
    let about = || format!("--kube-scheduler-config {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(about)?;
    let config: serde_json::Value = serde_saphyr::from_str(&text).with_context(about)?;
    kybern_scheduler::Settings::read(&config).with_context(about)
}

#[derive(Default)]
struct AuditLog {
    policy: Option<PathBuf>,
    path: Option<PathBuf>,
    days: Option<u32>,
    backups: Option<u32>,
    megabytes: Option<u32>,
}

/// The audit log's settings; its size is bounded whatever is given.
fn audit(given: AuditLog, data_dir: &Path) -> Result<Option<(Policy, LogSettings)>> {
    let policy = match &given.policy {
        None => Policy::standard()?,
        Some(path) => {
            let about = || format!("--audit-policy-file {}", path.display());
            Policy::parse(&std::fs::read_to_string(path).with_context(about)?).with_context(about)?
        }
    };
    let at_least_one = |flag: &str, given: Option<u32>, default: u32| match given.unwrap_or(default) {
        0 => bail!("--{flag} 0: must be at least 1; --audit-log-path none turns the log off"),
        n => Ok(n),
    };
    let days = at_least_one("audit-log-maxage", given.days, 30)?;
    let backups = at_least_one("audit-log-maxbackup", given.backups, 10)?;
    let megabytes = at_least_one("audit-log-maxsize", given.megabytes, 100)?;
    let path = given.path.unwrap_or_else(|| data_dir.join("server/audit/audit.log"));
    let log = LogSettings {
        path,
        max_size: u64::from(megabytes) << 20,
        max_backups: usize::try_from(backups)?,
        max_age: jiff::SignedDuration::from_hours(i64::from(days) * 24),
    };
    Ok((log.path != Path::new("none")).then_some((policy, log)))
}

fn cidr(key: &str, given: Option<String>, default: &str) -> Result<Ipv4Net> {
    let text = given.unwrap_or_else(|| default.to_owned());
    text.parse().with_context(|| format!("--{key} {text}: must be an IPv4 network such as {default}"))
}

fn node_name(given: Option<String>) -> Result<String> {
    let name = match given {
        Some(n) => n,
        None => nix::unistd::gethostname()?.to_string_lossy().to_lowercase(),
    };
    let fits = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.');
    if !fits {
        bail!("--node-name {name:?}: must be lower-case letters, digits, '-' and '.'");
    }
    Ok(name)
}

/// The given address, or the one this machine uses towards its default route (nothing is sent).
fn own_address(given: Option<IpAddr>) -> Result<Ipv4Addr> {
    let found = match given {
        Some(a) => a,
        None => {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket
                .connect("192.0.2.1:9")
                .context("this machine has no default route; give its address with --node-ip")?;
            socket.local_addr()?.ip()
        }
    };
    match found {
        IpAddr::V4(a) => Ok(a),
        IpAddr::V6(a) => bail!("--node-ip {a}: only IPv4 addresses are supported so far"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(args: ServerArgs) -> Result<Server> {
        Server::resolve(ServerArgs { config: "/nonexistent".into(), node_ip: Some([10, 0, 0, 1].into()), ..args })
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let s = server(ServerArgs::default()).unwrap();
        assert_eq!((s.api_port, s.peer_port), (6443, 2380));
        assert_eq!(s.cluster_cidr.to_string(), "10.42.0.0/16");
        assert_eq!(s.service_cidr.to_string(), "10.43.0.0/16");
        assert_eq!(s.kubeconfig, Path::new("/etc/kybern/kybern.yaml"));
    }

    #[test]
    fn mistakes_name_the_flag_and_the_remedy() {
        let cases: [(ServerArgs, &str); 3] = [
            (ServerArgs { server: Some("https://x:6443".into()), ..Default::default() }, "--token"),
            (
                ServerArgs {
                    server: Some("x".into()),
                    token: Some("t".into()),
                    cluster_init: true,
                    ..Default::default()
                },
                "exclude each other",
            ),
            (ServerArgs { cluster_cidr: Some("10.42.0.0".into()), ..Default::default() }, "--cluster-cidr"),
        ];
        for (args, expected) in cases {
            let e = format!("{:#}", server(args).unwrap_err());
            assert!(e.contains(expected), "{e}");
        }
    }

    #[test]
    fn a_wrong_scheduler_configuration_is_refused_with_its_field() {
        let path = std::env::temp_dir().join(format!("kybern-scheduler-{}.yaml", std::process::id()));
        let text = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        std::fs::write(&path, format!("{text}profiles: [{{schedulerName: packer}}]\n")).unwrap();
        let args = || ServerArgs { kube_scheduler_config: Some(path.clone()), ..ServerArgs::default() };
        assert_ne!(server(args()).unwrap().scheduler, kybern_scheduler::Settings::default());
        std::fs::write(&path, format!("{text}profiles: [{{percentageOfNodesToScore: 400}}]\n")).unwrap();
        let error = format!("{:#}", server(args()).unwrap_err());
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("profiles[0].percentageOfNodesToScore: Invalid value: 400"), "{error}");
        assert!(server(args()).is_err(), "a file that is not there is no default");
    }

    #[test]
    fn the_audit_log_is_on_and_bounded_unless_told_otherwise() {
        let (policy, log) = server(ServerArgs::default()).unwrap().audit.unwrap();
        assert_eq!(log.path, Path::new("/var/lib/kybern/server/audit/audit.log"));
        assert_eq!((log.max_size, log.max_backups, log.max_age.as_hours()), (100 << 20, 10, 720));
        let anybody = kybern_api::attributes::Attributes { verb: "create".into(), ..Default::default() };
        assert_eq!(policy.judge(&anybody).level, kybern_apiserver::audit::Level::Metadata);
        let none = ServerArgs { audit_log_path: Some("none".into()), ..ServerArgs::default() };
        assert!(server(none).unwrap().audit.is_none());
        let unbounded = ServerArgs { audit_log_maxbackup: Some(0), ..ServerArgs::default() };
        assert!(server(unbounded).unwrap_err().to_string().contains("--audit-log-maxbackup 0"));
        let missing = ServerArgs { audit_policy_file: Some("/nonexistent".into()), ..ServerArgs::default() };
        assert!(server(missing).is_err(), "a policy that is not there is no default");
    }

    #[test]
    fn only_known_parts_can_be_done_without() {
        assert_eq!(parts(&["ingress".to_owned()]).unwrap(), [Part::Ingress]);
        assert_eq!(parts(&["image-sharing".to_owned()]).unwrap(), [Part::ImageSharing]);
        assert!(parts(&["ingres".to_owned()]).unwrap_err().to_string().contains("--disable ingres"));
    }

    #[test]
    fn thresholds_fit_each_other() {
        assert_eq!(image_gc(None, None).unwrap(), (85, 80));
        assert_eq!(image_gc(Some(60), None).unwrap(), (60, 55));
        assert_eq!(image_gc(Some(100), None).unwrap(), (100, 80));
        assert!(image_gc(Some(50), Some(60)).is_err() && image_gc(Some(101), None).is_err());
    }

    #[test]
    fn no_upstream_is_something_else_than_none_given() {
        let given = |texts: &[&str]| upstream_dns(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        assert_eq!(given(&[]).unwrap(), None);
        assert_eq!(given(&["none"]).unwrap(), Some(vec![]));
        assert_eq!(given(&["192.0.2.1"]).unwrap(), Some(vec![IpAddr::from([192, 0, 2, 1])]));
        assert!(given(&["here"]).unwrap_err().to_string().contains("--upstream-dns here"));
    }

    #[test]
    fn the_file_has_the_flags_names_and_refuses_others() {
        let f = parse("cluster-cidr: 10.1.0.0/16\ntls-san: [a, b]\n").unwrap();
        assert_eq!((f.cluster_cidr.as_deref(), f.tls_san.len()), (Some("10.1.0.0/16"), 2));
        assert!(parse("cluster-cdir: x").is_err());
        assert!(parse("").is_ok());
    }
}
