//! The plugin's verbs (CNI specification 1.0.0): ADD, DEL, CHECK, VERSION. Each is idempotent.

use super::config::{BRIDGE, NetConf, VERSIONS, host_link};
use super::ipam::Addresses;
use crate::net::link::Links;
use crate::net::netns;
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// Error codes of the specification.
mod code {
    pub(super) const INCOMPATIBLE_VERSION: u32 = 1;
    pub(super) const INVALID_ENVIRONMENT: u32 = 4;
    pub(super) const IO: u32 = 5;
    pub(super) const DECODE: u32 = 6;
    pub(super) const INVALID_CONFIG: u32 = 7;
    pub(super) const CHECK_FAILED: u32 = 100;
}

/// A failed call, as the runtime reads it.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    code: u32,
    message: String,
}

impl Failure {
    fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::new(code::IO, e.to_string())
    }
}

/// What the runtime passes in the environment.
#[derive(Debug)]
struct Call {
    container: String,
    netns: Option<PathBuf>,
    interface: String,
    /// `namespace/name` of the pod, as Kubernetes' runtimes pass it; empty from others.
    pod: String,
}

impl Call {
    fn read() -> Result<Self, Failure> {
        let var = |name: &str| std::env::var(name).unwrap_or_default();
        let call = Self {
            container: var("CNI_CONTAINERID"),
            netns: Some(var("CNI_NETNS")).filter(|n| !n.is_empty()).map(PathBuf::from),
            interface: var("CNI_IFNAME"),
            pod: pod(&var("CNI_ARGS")),
        };
        if call.container.is_empty() || call.interface.is_empty() || call.interface.len() > 15 {
            return Err(Failure::new(
                code::INVALID_ENVIRONMENT,
                "CNI_CONTAINERID or CNI_IFNAME is missing or too long",
            ));
        }
        Ok(call)
    }

    fn netns(&self) -> Result<&Path, Failure> {
        self.netns.as_deref().ok_or_else(|| Failure::new(code::INVALID_ENVIRONMENT, "CNI_NETNS is missing"))
    }

    fn owner(&self) -> String {
        format!("{}\n{}", self.container, self.interface)
    }

    fn host_link(&self) -> String {
        host_link(&self.owner())
    }
}

/// The pod in `K8S_POD_NAMESPACE=a;K8S_POD_NAME=b`; empty when there is none.
fn pod(args: &str) -> String {
    let arg = |key: &str| args.split(';').find_map(|a| a.strip_prefix(key)?.strip_prefix('='));
    match (arg("K8S_POD_NAMESPACE"), arg("K8S_POD_NAME")) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => String::new(),
    }
}

/// Runs one call: environment and standard input in, standard output out. The exit code is 0 or 1.
pub fn run(command: &str) -> u8 {
    let (answer, failed) = match dispatch(command) {
        Ok(answer) => (answer, false),
        Err(f) => (json!({ "cniVersion": "1.0.0", "code": f.code, "msg": f.message }), true),
    };
    if !answer.is_null() {
        println!("{answer}");
    }
    u8::from(failed)
}

fn dispatch(command: &str) -> Result<Value, Failure> {
    if command == "VERSION" {
        return Ok(json!({ "cniVersion": "1.0.0", "supportedVersions": VERSIONS }));
    }
    let mut text = String::new();
    io::stdin().take(1 << 20).read_to_string(&mut text)?;
    let conf: NetConf = serde_json::from_str(&text).map_err(|e| Failure::new(code::DECODE, e.to_string()))?;
    if !VERSIONS.contains(&conf.cni_version.as_str()) {
        let message = format!("CNI version {} is not supported", conf.cni_version);
        return Err(Failure::new(code::INCOMPATIBLE_VERSION, message));
    }
    let call = Call::read()?;
    match (conf.plugin.as_str(), command) {
        ("loopback", "ADD") => loopback(&conf, &call),
        ("loopback", _) | (_, "GC" | "STATUS") => Ok(Value::Null),
        (_, "ADD") => add(&conf, &call),
        (_, "DEL") => delete(&conf, &call).map(|()| Value::Null),
        (_, "CHECK") => check(&conf, &call).map(|()| Value::Null),
        _ => Err(Failure::new(code::INVALID_ENVIRONMENT, format!("CNI_COMMAND {command:?} is not known"))),
    }
}

fn loopback(conf: &NetConf, call: &Call) -> Result<Value, Failure> {
    netns::run_in_async(call.netns()?, || async { Links::open()?.set_up("lo").await })?;
    Ok(json!({
        "cniVersion": conf.cni_version,
        "interfaces": [{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": call.netns()? }],
        "ips": [{ "interface": 0, "address": "127.0.0.1/8" }],
    }))
}

fn add(conf: &NetConf, call: &Call) -> Result<Value, Failure> {
    if conf.pod_cidr.prefix_len() == 0 || conf.pod_cidr.prefix_len() > 30 {
        return Err(Failure::new(code::INVALID_CONFIG, format!("podCIDR {} has no room for pods", conf.pod_cidr)));
    }
    let (address, mac) = join(conf, call)?;
    Ok(result(conf, call, address, mac))
}

/// Gives the sandbox an address and a link; all of it or nothing.
fn join(conf: &NetConf, call: &Call) -> Result<(Ipv4Addr, [u8; 6]), Failure> {
    let sandbox = call.netns()?.to_path_buf();
    let address = Addresses::open(&conf.data_dir, conf.pod_cidr)?.allocate(&call.owner(), &call.pod)?;
    match wire(conf, call, &sandbox, address) {
        Ok(mac) => Ok((address, mac)),
        Err(e) => {
            let _ = delete(conf, call);
            Err(e.into())
        }
    }
}

/// Wires a namespace that no runtime knows, as if it were a pod's; what is there already is wired anew.
///
/// # Errors
/// When it can't be wired.
pub fn attach(conf: &NetConf, container: &str, netns: &Path, pod: &str) -> io::Result<Ipv4Addr> {
    let call = own(container, Some(netns.to_owned()), pod);
    join(conf, &call).map(|(address, _)| address).map_err(|f| io::Error::other(f.message))
}

/// Undoes [`attach`].
///
/// # Errors
/// When the link or the address can't be removed.
pub fn detach(conf: &NetConf, container: &str) -> io::Result<()> {
    delete(conf, &own(container, None, "")).map_err(|f| io::Error::other(f.message))
}

fn own(container: &str, netns: Option<PathBuf>, pod: &str) -> Call {
    Call { container: container.into(), netns, interface: "eth0".into(), pod: pod.into() }
}

fn result(conf: &NetConf, call: &Call, address: Ipv4Addr, mac: [u8; 6]) -> Value {
    let mac = mac.map(|b| format!("{b:02x}")).join(":");
    let gateway = conf.gateway();
    json!({
        "cniVersion": conf.cni_version,
        "interfaces": [
            { "name": BRIDGE },
            { "name": call.host_link() },
            { "name": call.interface, "mac": mac, "sandbox": call.netns },
        ],
        "ips": [{ "interface": 2, "address": format!("{address}/{}", conf.pod_cidr.prefix_len()), "gateway": gateway }],
        "routes": [{ "dst": "0.0.0.0/0", "gw": gateway }],
    })
}

/// Makes the bridge if need be, and the pair between it and the sandbox. Returns the pod's MAC.
fn wire(conf: &NetConf, call: &Call, sandbox: &Path, address: Ipv4Addr) -> io::Result<[u8; 6]> {
    wire_in(Path::new("/proc/thread-self/ns/net"), conf, call, sandbox, address)
}

/// [`wire`] in the namespace that `node` names.
fn wire_in(node: &Path, conf: &NetConf, call: &Call, sandbox: &Path, address: Ipv4Addr) -> io::Result<[u8; 6]> {
    let (gateway, prefix, mtu) = (conf.gateway(), conf.pod_cidr.prefix_len(), conf.mtu());
    let host = call.host_link();
    // Unique while it is in the node's namespace: pods are wired at the same time.
    let temporary = host.replacen("ky", "kt", 1);
    let (target, inner) = (sandbox.to_path_buf(), temporary.clone());
    netns::run_in_async(node, move || async move {
        let links = Links::open()?;
        ensure_bridge(&links, gateway, prefix).await?;
        links.delete(&host).await?;
        links.add_veth(&host, &inner, mtu).await?;
        links.set_master(&host, BRIDGE).await?;
        links.set_hairpin(&host).await?;
        links.set_up(&host).await?;
        links.move_to(&inner, &target).await
    })?;
    let interface = call.interface.clone();
    netns::run_in_async(sandbox, move || async move {
        let links = Links::open()?;
        links.rename(&temporary, &interface).await?;
        links.add_address(&interface, IpAddr::V4(address), prefix).await?;
        links.set_up(&interface).await?;
        links.set_up("lo").await?;
        links.add_route(Ipv4Net::default(), Some(gateway), &interface, false).await?;
        Ok(links.get(&interface).await?.mac)
    })
}

/// The node's bridge with its address.
///
/// # Errors
/// On a netlink failure.
pub(super) async fn ensure_bridge(links: &Links, gateway: Ipv4Addr, prefix: u8) -> io::Result<()> {
    if links.find(BRIDGE).await?.is_none() {
        links.add_bridge(BRIDGE).await?;
    }
    // Lets a pod's host port be reached at the node's own loopback address; the proxy's table keeps others
    // away from that.
    let local = format!("/proc/sys/net/ipv4/conf/{BRIDGE}/route_localnet");
    if let Err(e) = std::fs::write(&local, "1") {
        tracing::warn!("host ports can't be reached at 127.0.0.1: {local}: {e}");
    }
    links.add_address(BRIDGE, IpAddr::V4(gateway), prefix).await
}

fn delete(conf: &NetConf, call: &Call) -> Result<(), Failure> {
    let host = call.host_link();
    netns::run_in_async(
        "/proc/thread-self/ns/net".as_ref(),
        move || async move { Links::open()?.delete(&host).await },
    )?;
    Ok(Addresses::open(&conf.data_dir, conf.pod_cidr)?.release(&call.owner())?)
}

fn check(conf: &NetConf, call: &Call) -> Result<(), Failure> {
    let missing = |what: String| Failure::new(code::CHECK_FAILED, what);
    if Addresses::open(&conf.data_dir, conf.pod_cidr)?.find(&call.owner())?.is_none() {
        return Err(missing(format!("container {} has no address", call.container)));
    }
    let (host, inner) = (call.host_link(), call.interface.clone());
    let outside = host.clone();
    let there = netns::run_in_async("/proc/thread-self/ns/net".as_ref(), move || async move {
        Links::open()?.find(&outside).await
    })?;
    if there.is_none() {
        return Err(missing(format!("link {host} is gone")));
    }
    let found = netns::run_in_async(call.netns()?, move || async move { Links::open()?.find(&inner).await })?;
    found.map(|_| ()).ok_or_else(|| missing(format!("link {} is gone", call.interface)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(dir: &Path) -> NetConf {
        NetConf {
            cni_version: "1.0.0".into(),
            name: "kybern".into(),
            plugin: "kybern".into(),
            pod_cidr: "10.42.7.0/24".parse().unwrap(),
            mtu: 1450,
            data_dir: dir.to_path_buf(),
        }
    }

    fn call(id: &str, netns: &str) -> Call {
        Call { container: id.into(), netns: Some(netns::path(netns)), interface: "eth0".into(), pod: String::new() }
    }

    /// Two pods on a bridge in a namespace that plays the node; they reach each other and themselves,
    /// and nothing is left after DEL.
    #[test]
    fn pods_are_wired_checked_and_unwired_without_a_trace() {
        let pid = std::process::id();
        let names = [format!("kybern-cn-{pid}"), format!("kybern-ca-{pid}"), format!("kybern-cb-{pid}")];
        let dir = std::env::temp_dir().join(format!("kybern-cni-{pid}"));
        let _ = std::fs::remove_dir_all(&dir);
        for n in &names {
            netns::create(n).unwrap();
        }
        let (conf, calls) = (conf(&dir), [call("a", &names[1]), call("b", &names[2])]);
        // The plugin works in the caller's namespace: wire from a thread inside the "node".
        let outcome = netns::run_in(&netns::path(&names[0]), move || {
            let a = wire_here(&conf, &calls[0])?;
            let b = wire_here(&conf, &calls[1])?;
            let listener =
                netns::run_in(calls[1].netns.as_deref().unwrap(), move || std::net::TcpListener::bind((b, 80)))?;
            let reached = netns::run_in(calls[0].netns.as_deref().unwrap(), move || {
                let limit = std::time::Duration::from_secs(2);
                std::net::TcpStream::connect_timeout(&(b, 80).into(), limit).map(|_| ())
            });
            drop(listener);
            Ok((a, b, reached.is_ok()))
        });
        for n in &names {
            netns::delete(n).unwrap();
        }
        std::fs::remove_dir_all(&dir).unwrap();
        let (a, b, reached) = outcome.unwrap();
        assert_eq!((a.to_string(), b.to_string(), reached), ("10.42.7.2".into(), "10.42.7.3".into(), true));
    }

    /// ADD without leaving the calling thread's namespace (a test process has many threads).
    fn wire_here(conf: &NetConf, call: &Call) -> io::Result<Ipv4Addr> {
        let address = Addresses::open(&conf.data_dir, conf.pod_cidr)?.allocate(&call.owner(), &call.pod)?;
        wire_in(Path::new("/proc/thread-self/ns/net"), conf, call, call.netns.as_deref().unwrap(), address)?;
        Ok(address)
    }

    #[test]
    fn a_pod_is_known_by_the_arguments() {
        assert_eq!(pod("IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=x"), "a/b");
        assert_eq!(pod("K8S_POD_NAME=b"), "");
    }

    #[test]
    fn host_links_fit_and_differ_by_container_and_interface() {
        let a = call("0123456789abcdef0123456789abcdef", "x");
        let mut b = call("0123456789abcdef0123456789abcdef", "x");
        b.interface = "eth1".into();
        assert!(a.host_link().len() <= 15);
        assert_ne!(a.host_link(), b.host_link());
        assert_eq!(a.host_link(), call("0123456789abcdef0123456789abcdef", "y").host_link());
    }
}
