//! The command line: k3s's words where it has them.

use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, SocketAddrV4};
use std::path::PathBuf;

/// A Kubernetes-compatible cluster in one binary.
#[derive(Debug, Parser)]
#[command(name = "kybern", version, about, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server: a member of the replicated store with API server, controllers and scheduler
    Server(ServerArgs),
    /// Run a node: containers, network, services and DNS of one machine
    Agent(AgentArgs),
    /// Make and change clusters on this machine, whose hosts are network namespaces
    #[command(subcommand)]
    Dev(DevCommand),
    /// Put container images onto nodes
    #[command(subcommand)]
    Image(ImageCommand),
    /// Make, list and delete join tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make kubeconfigs for users
    #[command(subcommand)]
    Kubeconfig(KubeconfigCommand),
    /// Look at the cluster's certificates; revoke one that leaked
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Ask who may do what
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Look for what is wrong with this server
    Doctor(DoctorArgs),
    /// Look for what is wrong with the network
    #[command(subcommand)]
    Net(NetCommand),
    /// Load for measurements
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// Flags of `kybern server`. Each is also a key of the configuration file.
#[derive(Debug, Args, Clone, Default)]
pub struct ServerArgs {
    /// Configuration file; flags win over it
    #[arg(long, env = "KYBERN_CONFIG_FILE", default_value = "/etc/kybern/config.yaml")]
    pub config: PathBuf,
    /// Begin a new cluster (a server without --server does; accepted for scripts)
    #[arg(long)]
    pub cluster_init: bool,
    /// A server of the cluster to join, https://HOST:6443
    #[arg(long, short = 's', env = "KYBERN_URL")]
    pub server: Option<String>,
    /// Join token for servers; on the first server: the token others will join with
    #[arg(long, short = 't', env = "KYBERN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// On the first server: the token that nodes will join with
    #[arg(long, env = "KYBERN_AGENT_TOKEN", hide_env_values = true)]
    pub agent_token: Option<String>,
    /// Where everything is kept
    #[arg(long, short = 'd')]
    pub data_dir: Option<PathBuf>,
    /// Name of this server [default: the host's name]
    #[arg(long, env = "KYBERN_NODE_NAME")]
    pub node_name: Option<String>,
    /// Address that peers and nodes reach this server at [default: that of the default route]
    #[arg(long, short = 'i')]
    pub node_ip: Option<IpAddr>,
    /// Port of the API
    #[arg(long)]
    pub https_listen_port: Option<u16>,
    /// Port of the replication traffic between servers
    #[arg(long)]
    pub peer_port: Option<u16>,
    /// Further names and addresses for the server's certificate
    #[arg(long)]
    pub tls_san: Vec<String>,
    /// Addresses of pods
    #[arg(long)]
    pub cluster_cidr: Option<String>,
    /// Addresses of services
    #[arg(long)]
    pub service_cidr: Option<String>,
    /// Where the administrator's kubeconfig is written
    #[arg(long, short = 'o')]
    pub write_kubeconfig: Option<PathBuf>,
    /// KubeSchedulerConfiguration: profiles, plugins and their arguments
    #[arg(long)]
    pub kube_scheduler_config: Option<PathBuf>,
    /// Issuers whose tokens are believed, and how their users are named (AuthenticationConfiguration)
    #[arg(long)]
    pub authentication_config: Option<PathBuf>,
    /// Kubeconfig of a webhook that is asked about tokens that nobody else knows
    #[arg(long)]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// How long its answers hold [default: 2m]
    #[arg(long)]
    pub authentication_token_webhook_cache_ttl: Option<String>,
    /// Which requests are written down, and how much of them (audit.k8s.io/v1 Policy) [default: who did
    /// what, without health, discovery and what nodes and components do all the time]
    #[arg(long)]
    pub audit_policy_file: Option<PathBuf>,
    /// Where they are written down; none: nowhere [default: server/audit/audit.log in the data directory]
    #[arg(long)]
    pub audit_log_path: Option<PathBuf>,
    /// Days for which turned-over audit logs are kept [default: 30]
    #[arg(long)]
    pub audit_log_maxage: Option<u32>,
    /// How many of them are kept [default: 10]
    #[arg(long)]
    pub audit_log_maxbackup: Option<u32>,
    /// Megabytes after which the audit log is turned over [default: 100]
    #[arg(long)]
    pub audit_log_maxsize: Option<u32>,
    /// Admission plugins to turn on besides those that are
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins to turn off
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// What admission plugins go by (AdmissionConfiguration; EventRateLimit takes one)
    #[arg(long)]
    pub admission_control_config_file: Option<PathBuf>,
    /// Kubeconfig of a webhook that is sent every audit event too
    #[arg(long)]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// Do without a built-in part: ingress
    #[arg(long, value_delimiter = ',')]
    pub disable: Vec<String>,
    /// Send traces to this OTLP endpoint, http://HOST:4317
    #[arg(long, env = "KYBERN_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Log more
    #[arg(long)]
    pub debug: bool,
}

/// Flags of `kybern agent`. Each is also a key of the configuration file.
#[derive(Debug, Args, Clone, Default)]
pub struct AgentArgs {
    /// Configuration file; flags win over it
    #[arg(long, env = "KYBERN_CONFIG_FILE", default_value = "/etc/kybern/config.yaml")]
    pub config: PathBuf,
    /// A server of the cluster to join, https://HOST:6443
    #[arg(long, short = 's', env = "KYBERN_URL")]
    pub server: Option<String>,
    /// Join token for nodes
    #[arg(long, short = 't', env = "KYBERN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Where everything is kept
    #[arg(long, short = 'd')]
    pub data_dir: Option<PathBuf>,
    /// Where sockets and mounts are
    #[arg(long)]
    pub run_dir: Option<PathBuf>,
    /// Name of this node [default: the host's name]
    #[arg(long, env = "KYBERN_NODE_NAME")]
    pub node_name: Option<String>,
    /// Address of this node [default: that of the default route]
    #[arg(long, short = 'i')]
    pub node_ip: Option<IpAddr>,
    /// Labels to register with, key=value
    #[arg(long)]
    pub node_label: Vec<String>,
    /// Taints to register with, key=value:effect
    #[arg(long)]
    pub node_taint: Vec<String>,
    /// Cgroup below which pods run
    #[arg(long)]
    pub cgroup_root: Option<String>,
    /// Addresses of pods, as on the servers
    #[arg(long)]
    pub cluster_cidr: Option<String>,
    /// Addresses of services, as on the servers
    #[arg(long)]
    pub service_cidr: Option<String>,
    /// Use this CRI socket instead of a containerd of our own
    #[arg(long)]
    pub runtime_endpoint: Option<PathBuf>,
    /// Server for names outside the cluster; `none` refuses them [default: those of /etc/resolv.conf]
    #[arg(long)]
    pub upstream_dns: Vec<String>,
    /// Registry mirrors, CAs and users [default: /etc/kybern/registries.yaml]
    #[arg(long)]
    pub private_registry: Option<PathBuf>,
    /// Sysctls that pods may set besides the safe ones, such as kernel.msg*
    #[arg(long, value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Directory of pods that run without the API [default: DATA-DIR/pod-manifests]
    #[arg(long)]
    pub pod_manifest_path: Option<PathBuf>,
    /// What pods do not get, such as cpu=500m,memory=1Gi
    #[arg(long, value_delimiter = ',')]
    pub system_reserved: Vec<String>,
    /// When pods are evicted, such as memory.available<100Mi,nodefs.available<10%
    #[arg(long, value_delimiter = ',')]
    pub eviction_hard: Vec<String>,
    /// Unused images are removed when the disk is so full, in percent; 100: never for that [default: 85]
    #[arg(long)]
    pub image_gc_high_threshold: Option<u8>,
    /// And until it is only so full [default: 80]
    #[arg(long)]
    pub image_gc_low_threshold: Option<u8>,
    /// Start pods again after a reboot although no server can be reached; never those of a StatefulSet or with
    /// volumes of one node. Keeps the pods, their ConfigMaps and Secrets on this machine's disk
    #[arg(long)]
    pub offline_restart: bool,
    /// Do without a built-in part on this node: ingress, image-sharing (layers from other nodes)
    #[arg(long, value_delimiter = ',')]
    pub disable: Vec<String>,
    /// Port of Ingress over plain HTTP [default: 80]
    #[arg(long)]
    pub ingress_http_port: Option<u16>,
    /// Port of Ingress over TLS [default: 443]
    #[arg(long)]
    pub ingress_https_port: Option<u16>,
    /// Send traces to this OTLP endpoint, http://HOST:4317
    #[arg(long, env = "KYBERN_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Log more
    #[arg(long)]
    pub debug: bool,
}

/// Which dev cluster.
#[derive(Debug, Args, Clone)]
pub struct DevName {
    /// Name of the cluster
    #[arg(long, default_value = "dev")]
    pub name: String,
}

/// A host of a dev cluster.
#[derive(Debug, Args, Clone)]
pub struct DevHost {
    /// Host, for example server-1
    pub host: String,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: DevName,
}

/// `kybern dev`
#[derive(Debug, Subcommand)]
pub enum DevCommand {
    /// Create a cluster, or bring an existing one up again
    Create {
        /// Number of servers
        #[arg(long, default_value_t = 3)]
        servers: usize,
        /// Number of nodes
        #[arg(long, default_value_t = 2)]
        nodes: usize,
        /// Which cluster.
        #[command(flatten)]
        cluster: DevName,
        /// Don't wait until everything is ready
        #[arg(long)]
        no_wait: bool,
        /// What its hosts are given besides.
        #[command(flatten)]
        extra: DevArguments,
    },
    /// Delete a cluster and everything of it
    Delete(DevName),
    /// List clusters and their hosts
    List,
    /// Print the path of the kubeconfig
    Kubeconfig(DevName),
    /// End a host's program and keep it ended; without a host: the whole cluster's, until `create`
    Stop {
        /// Host, for example server-1
        host: Option<String>,
        /// Which cluster.
        #[command(flatten)]
        cluster: DevName,
    },
    /// Run a stopped host's program
    Start(DevHost),
    /// SIGKILL a host's program; it comes back by itself
    Kill(DevHost),
    /// Turn a host off as a power cut does: containers, mounts and network go, the disk stays; `start` turns it on
    Poweroff(DevHost),
    /// Cut a host off the network
    Cut(DevHost),
    /// Undo a cut
    Heal(DevHost),
    /// The process behind a cluster
    #[command(hide = true)]
    Daemon(DevName),
}

/// Arguments that a dev cluster's programs are started with, besides its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, serde::Serialize, serde::Deserialize)]
pub struct DevArguments {
    /// Start every server with this argument too; may be given several times
    #[arg(long = "server-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub server: Vec<String>,
    /// Start every node's agent with this argument too, for example --node-arg=--offline-restart
    #[arg(long = "node-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub node: Vec<String>,
}

/// `kybern image`
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Import an image archive (docker save, OCI layout as tar or directory) onto every node
    Import {
        /// Archive or directory
        file: PathBuf,
        /// Onto which nodes.
        #[command(flatten)]
        onto: OnNodes,
    },
    /// List the nodes' images
    #[command(visible_alias = "ls")]
    List {
        /// Of which nodes.
        #[command(flatten)]
        onto: OnNodes,
    },
    /// Remove images by name or id
    Rm {
        /// Names or ids
        #[arg(required = true)]
        images: Vec<String>,
        /// From which nodes.
        #[command(flatten)]
        onto: OnNodes,
    },
    /// Remove every image that no container uses
    Prune {
        /// From which nodes.
        #[command(flatten)]
        onto: OnNodes,
    },
}

/// All nodes of a dev cluster, or one containerd.
#[derive(Debug, Args)]
pub struct OnNodes {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: DevName,
    /// Only this containerd (its socket), on a machine that is a node itself
    #[arg(long)]
    pub containerd: Option<PathBuf>,
}

/// `kybern token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a join token and print it
    Create {
        /// What may join with it: server or agent
        #[arg(long, default_value = "agent")]
        role: String,
        /// How long it may be used, for example 24h
        #[arg(long, default_value = "24h")]
        ttl: String,
        /// Data directory of this server
        #[arg(long, short = 'd', default_value = "/var/lib/kybern")]
        data_dir: PathBuf,
        /// Kubeconfig to reach the cluster with
        #[arg(long, env = "KUBECONFIG", default_value = "/etc/kybern/kybern.yaml")]
        kubeconfig: PathBuf,
    },
}

/// Flags of `kybern doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Check what a hardening guide asks for: each line passes, or says what to do
    #[arg(long)]
    pub security: bool,
    /// Data directory of this server
    #[arg(long, short = 'd', default_value = "/var/lib/kybern")]
    pub data_dir: PathBuf,
    /// Kubeconfig of an administrator
    #[arg(long, env = "KUBECONFIG", default_value = "/etc/kybern/kybern.yaml")]
    pub kubeconfig: PathBuf,
}

/// `kybern net`
#[derive(Debug, Subcommand)]
pub enum NetCommand {
    /// From every node: do pods reach pods, services, DNS and the outside? Each line passes, or says what is
    /// broken and where to look
    Check {
        /// Also call this address outside the cluster, ADDRESS:PORT
        #[arg(long)]
        outside: Option<SocketAddrV4>,
        /// Kubeconfig of an administrator
        #[arg(long, env = "KUBECONFIG", default_value = "/etc/kybern/kybern.yaml")]
        kubeconfig: PathBuf,
    },
}

/// `kybern kubeconfig`
#[derive(Debug, Subcommand)]
pub enum KubeconfigCommand {
    /// Make a user's certificate and print a kubeconfig with it
    Create {
        /// Name of the user
        user: String,
        /// Group of the user; may be given several times
        #[arg(long = "group")]
        groups: Vec<String>,
        /// How long the certificate lives, for example 24h or 90d
        #[arg(long, default_value = "365d")]
        expires: String,
        /// Write it to this file (mode 600) instead
        #[arg(long, short = 'o')]
        output: Option<PathBuf>,
        /// Allow names and groups that begin with system:
        #[arg(long)]
        reserved: bool,
        /// Data directory of this server
        #[arg(long, short = 'd', default_value = "/var/lib/kybern")]
        data_dir: PathBuf,
        /// Kubeconfig that names the cluster's address
        #[arg(long, env = "KUBECONFIG", default_value = "/etc/kybern/kybern.yaml")]
        kubeconfig: PathBuf,
    },
}

/// `kybern certificate`
#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// List the cluster's CAs
    List {
        /// Data directory of this server
        #[arg(long, short = 'd', default_value = "/var/lib/kybern")]
        data_dir: PathBuf,
    },
    /// Fail when a CA expires soon
    Check {
        /// How soon
        #[arg(long, default_value = "90d")]
        within: String,
        /// Data directory of this server
        #[arg(long, short = 'd', default_value = "/var/lib/kybern")]
        data_dir: PathBuf,
    },
    /// Give every server and node a new certificate, while the cluster runs
    Rotate(RotateArgs),
    /// Replace every CA, and so every certificate, while the cluster runs: the new CAs are trusted, then they
    /// sign, then the old ones go. Users need new kubeconfigs before the last step
    RotateCa {
        /// How long each of the three steps lasts at least, for clients that read the CAs now and then
        #[arg(long, default_value = "10m")]
        pause: String,
        /// Where.
        #[command(flatten)]
        args: RotateArgs,
    },
    /// Refuse a client certificate from now on, on every server
    Revoke {
        /// A PEM file with it, or its SHA-256 (the audit log's X509SHA256=...)
        certificate: String,
        /// Why
        #[arg(long, default_value = "leaked")]
        reason: String,
        /// Kubeconfig to reach the cluster with
        #[arg(long, env = "KUBECONFIG", default_value = "/etc/kybern/kybern.yaml")]
        kubeconfig: PathBuf,
    },
}

/// Which cluster's certificates are replaced.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Data directory of this server
    #[arg(long, short = 'd', default_value = "/var/lib/kybern")]
    pub data_dir: PathBuf,
    /// Kubeconfig to reach the cluster with; it is renewed too
    #[arg(long, env = "KUBECONFIG", default_value = "/etc/kybern/kybern.yaml")]
    pub kubeconfig: PathBuf,
}

/// `kybern auth`
#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Say whether a user may do something, and which binding allows it
    Why {
        /// Name of the user
        user: String,
        /// Verb, for example list
        verb: String,
        /// Resource (pods, deploy, pods/log, widgets.example.org) or a path (/metrics)
        resource: String,
        /// Group of the user; may be given several times
        #[arg(long = "group")]
        groups: Vec<String>,
        /// In this namespace; without it in all
        #[arg(long, short = 'n', default_value = "")]
        namespace: String,
        /// The object of this name
        #[arg(long, default_value = "")]
        name: String,
        /// Kubeconfig to reach the cluster with
        #[arg(long, env = "KUBECONFIG", default_value = "/etc/kybern/kybern.yaml")]
        kubeconfig: PathBuf,
    },
}

/// `kybern bench`
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Be many nodes without containers: their pods become Ready at once. Runs until it is told to stop
    Hollow(HollowArgs),
    /// Start pods through a container runtime alone: the yardstick for an agent. No agent may use it meanwhile
    Runtime(RuntimeArgs),
}

/// Flags of `kybern bench runtime`.
#[derive(Debug, Args, Clone)]
pub struct RuntimeArgs {
    /// The runtime's socket
    #[arg(long)]
    pub socket: PathBuf,
    /// An image with a shell that the runtime has
    #[arg(long)]
    pub image: String,
    /// Pods that are started one after the other
    #[arg(long, default_value_t = 20)]
    pub alone: usize,
    /// Pods that are started together
    #[arg(long, default_value_t = 100)]
    pub many: usize,
}

/// Flags of `kybern bench hollow`.
#[derive(Debug, Args, Clone)]
pub struct HollowArgs {
    /// Number of nodes
    #[arg(long, default_value_t = 100)]
    pub nodes: u32,
    /// Pods that each node takes
    #[arg(long, default_value_t = 110)]
    pub max_pods: u32,
    /// Pod addresses of all these nodes: each gets a /24 of it. Must not overlap those of real nodes
    #[arg(long, default_value = "10.128.0.0/10")]
    pub pod_cidr: ipnet::Ipv4Net,
    /// Kubeconfig of somebody who may do what nodes do
    #[arg(long, env = "KUBECONFIG", default_value = "/etc/kybern/kybern.yaml")]
    pub kubeconfig: PathBuf,
}
