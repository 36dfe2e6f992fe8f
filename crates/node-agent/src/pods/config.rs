//! What CRI is told about a pod's sandbox and containers.

use super::observe::BACKOFF_STEP;
use super::resources::Machine;
use super::{dns, env, resources, security};
use crate::config::{Config, Paths};
use crate::error::{Error, Result};
use crate::runtime::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::volumes::{Mounted, sub_path};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, VolumeMount};
use kybern_api::signals;
use kybern_wire::cri as pb;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Longest full name the kernel takes.
const MAX_FQDN: usize = 64;
/// Longest short name.
const MAX_HOSTNAME: usize = 63;

/// Where a container's last words go on the node.
pub fn termination_log(paths: &Paths, uid: &str, container: &str, attempt: u32) -> PathBuf {
    paths.pod(uid).join("containers").join(container).join(attempt.to_string())
}

/// A container's log, relative to the pod's log directory.
pub fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

/// Does the pod use the node's network?
pub fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
}

/// (namespace, name, uid)
pub fn identity(pod: &Pod) -> (&str, &str, &str) {
    let m = &pod.metadata;
    (
        m.namespace.as_deref().unwrap_or_default(),
        m.name.as_deref().unwrap_or_default(),
        m.uid.as_deref().unwrap_or_default(),
    )
}

fn labels(pod: &Pod) -> HashMap<String, String> {
    let (namespace, name, uid) = identity(pod);
    let own = [(POD_NAME, name), (POD_NAMESPACE, namespace), (POD_UID, uid)];
    own.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

/// The sandbox of a pod, and what of its name resolution had to be left out.
///
/// # Errors
/// When its host name cannot be.
pub fn sandbox(
    config: &Config,
    pod: &Pod,
    attempt: u32,
    cgroup: &str,
    seccomp: bool,
) -> Result<(pb::PodSandboxConfig, Vec<String>)> {
    let (namespace, name, uid) = identity(pod);
    let spec = pod.spec.clone().unwrap_or_default();
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolution = dns::resolution(config, pod, &spec, &resolv);
    let mut all = labels(pod);
    all.extend(pod.metadata.labels.clone().unwrap_or_default());
    let sandbox = pb::PodSandboxConfig {
        metadata: Some(pb::PodSandboxMetadata {
            name: name.into(),
            uid: uid.into(),
            namespace: namespace.into(),
            attempt,
        }),
        // In the node's network there is no host name of one's own to set.
        hostname: if host_network(pod) { String::new() } else { kernel_hostname(config, pod)? },
        log_directory: config.paths().pod_logs(namespace, name, uid).display().to_string(),
        dns_config: Some(resolution.config),
        port_mappings: ports(&spec),
        labels: all,
        annotations: pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(pb::LinuxPodSandboxConfig {
            cgroup_parent: cgroup.into(),
            security_context: Some(security::sandbox(&spec, seccomp)),
            sysctls: security::sysctls(&spec),
            resources: None,
        }),
    };
    Ok((sandbox, resolution.omitted))
}

/// The host name of a pod's kernel: the short one, or the full one where the pod wants that.
fn kernel_hostname(config: &Config, pod: &Pod) -> Result<String> {
    let full = pod.spec.as_ref().is_some_and(|s| s.set_hostname_as_fqdn == Some(true));
    let Some(name) = fqdn(config, pod).filter(|_| full) else { return Ok(hostname(config, pod)) };
    if name.len() > MAX_FQDN {
        return Err(Error::Pod(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long ({MAX_FQDN} \
             characters is the max, {} characters requested)",
            name.len()
        )));
    }
    Ok(name)
}

/// The short name a pod's processes see.
pub fn hostname(config: &Config, pod: &Pod) -> String {
    if host_network(pod) {
        return config.name.clone();
    }
    let spec = pod.spec.as_ref();
    let overridden = spec.and_then(|s| s.hostname_override.clone().filter(|h| !h.is_empty()));
    let written = overridden.or_else(|| spec.and_then(|s| s.hostname.clone()).filter(|h| !h.is_empty()));
    let mut name = written.or(pod.metadata.name.clone()).unwrap_or_default();
    name.truncate(MAX_HOSTNAME);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// The pod's name in DNS, where it has a subdomain.
fn fqdn(config: &Config, pod: &Pod) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref().filter(|s| !s.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref()?;
    Some(format!("{}.{subdomain}.{namespace}.svc.{}", hostname(config, pod), config.cluster_domain))
}

fn ports(spec: &PodSpec) -> Vec<pb::PortMapping> {
    let ports = spec.containers.iter().flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            Some(pb::PortMapping {
                protocol: match p.protocol.as_deref() {
                    Some("UDP") => pb::Protocol::Udp,
                    Some("SCTP") => pb::Protocol::Sctp,
                    _ => pb::Protocol::Tcp,
                }
                .into(),
                container_port: p.container_port,
                host_port: p.host_port?,
                host_ip: p.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

/// The content of a pod's /etc/hosts.
pub fn hosts(config: &Config, pod: &Pod, ips: &[String]) -> String {
    let mut text = if host_network(pod) {
        let own = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        format!("# Kubernetes-managed hosts file (host network).\n{own}")
    } else {
        let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost \
                        ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\n\
                        fe00::2\tip6-allrouters\n"
            .to_owned();
        let host = hostname(config, pod);
        let names = fqdn(config, pod).map_or(host.clone(), |f| format!("{f}\t{host}"));
        ips.iter().for_each(|ip| text.push_str(&format!("{ip}\t{names}\n")));
        text
    };
    let aliases: Vec<String> = pod
        .spec
        .iter()
        .flat_map(|s| s.host_aliases.iter().flatten())
        .map(|alias| format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")))
        .collect();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        text.push_str(&aliases.concat());
    }
    text
}

/// What a container is made from.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Restart count.
    pub attempt: u32,
    /// Back-off step.
    pub step: u32,
    /// Where files lie.
    pub paths: &'a Paths,
    /// The pod's volumes.
    pub volumes: &'a Mounted,
    /// Its environment.
    pub vars: &'a [(String, String)],
    /// The image: id and user.
    pub image: &'a pb::Image,
    /// The node's part in a container's resources.
    pub machine: Machine<'a>,
    /// The container whose processes it sees (runtime id), where it debugs one.
    pub target: Option<&'a str>,
    /// Can the kernel filter system calls?
    pub seccomp: bool,
}

/// One container; makes the files it needs on the node.
///
/// # Errors
/// When the pod asks for what cannot be (an unknown volume, root where it must not be).
pub fn container(making: &Making<'_>) -> Result<pb::ContainerConfig> {
    let Making { pod, container: c, .. } = *making;
    let (command, args) = env::command(c, making.vars);
    let mut labels = labels(pod);
    labels.insert(CONTAINER_NAME.into(), c.name.clone());
    let qos = resources::qos(pod);
    Ok(pb::ContainerConfig {
        metadata: Some(pb::ContainerMetadata { name: c.name.clone(), attempt: making.attempt }),
        image: Some(pb::ImageSpec { image: making.image.id.clone(), ..Default::default() }),
        command,
        args,
        working_dir: c.working_dir.clone().unwrap_or_default(),
        envs: making
            .vars
            .iter()
            .map(|(k, v)| pb::KeyValue { key: k.clone(), value: v.clone().into_bytes().into() })
            .collect(),
        mounts: mounts(making)?,
        labels,
        annotations: HashMap::from([(BACKOFF_STEP.to_owned(), making.step.to_string())]),
        log_path: log_path(&c.name, making.attempt),
        stdin: c.stdin.unwrap_or(false),
        stdin_once: c.stdin_once.unwrap_or(false),
        tty: c.tty.unwrap_or(false),
        stop_signal: stop_signal(c),
        linux: Some(pb::LinuxContainerConfig {
            resources: Some(resources::linux(c, qos, making.machine)),
            security_context: Some(security::container(&security::Asked {
                pod,
                container: c,
                image: making.image,
                target: making.target,
                seccomp: making.seccomp,
            })?),
        }),
    })
}

/// The signal that ends a container; a runtime that knows none of it goes by the image.
fn stop_signal(c: &Container) -> i32 {
    c.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref()).map_or(0, signals::runtime_number)
}

fn mounts(making: &Making<'_>) -> Result<Vec<pb::Mount>> {
    let c = making.container;
    let mut mounts = Vec::new();
    for m in c.volume_mounts.iter().flatten() {
        mounts.push(volume_mount(making, m)?);
    }
    let taken = |mounts: &[pb::Mount], path: &str| mounts.iter().any(|m| m.container_path == path);
    let (_, _, uid) = identity(making.pod);
    if !taken(&mounts, "/etc/hosts") {
        let hosts = making.paths.pod(uid).join("etc-hosts");
        mounts.push(bind("/etc/hosts", &hosts, false));
    }
    let log = c.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let file = termination_log(making.paths, uid, &c.name, making.attempt);
    let parent = file.parent().unwrap_or(&file);
    std::fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    std::fs::write(&file, "").map_err(Error::file("create", &file))?;
    use std::os::unix::fs::PermissionsExt;
    // Whatever user the container runs as may write it.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).map_err(Error::file("chmod", &file))?;
    mounts.push(bind(log, &file, false));
    Ok(mounts)
}

fn volume_mount(making: &Making<'_>, m: &VolumeMount) -> Result<pb::Mount> {
    let sub = match (m.sub_path.as_deref(), m.sub_path_expr.as_deref()) {
        (Some(s), _) if !s.is_empty() => s.to_owned(),
        (_, Some(e)) if !e.is_empty() => {
            super::expand::expand(e, |n| making.vars.iter().find(|(k, _)| k == n).map(|(_, v)| v.clone()))
        }
        _ => String::new(),
    };
    if let Some(id) = making.volumes.images.get(&m.name) {
        let image = Some(pb::ImageSpec { image: id.clone(), ..Default::default() });
        let container_path = m.mount_path.clone();
        return Ok(pb::Mount { container_path, readonly: true, image, image_sub_path: sub, ..Default::default() });
    }
    let volume = making.volumes.paths.get(&m.name).ok_or_else(|| {
        Error::Pod(format!("cannot find volume {:?} to mount into container {:?}", m.name, making.container.name))
    })?;
    let host = if sub.is_empty() { volume.clone() } else { sub_path::resolve(volume, &sub)? };
    let propagation = match m.mount_propagation.as_deref() {
        Some("HostToContainer") => pb::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => pb::MountPropagation::PropagationBidirectional,
        _ => pb::MountPropagation::PropagationPrivate,
    };
    let read_only = m.read_only.unwrap_or(false) || making.volumes.read_only.contains(&m.name);
    let mount = bind(&m.mount_path, &host, read_only);
    Ok(pb::Mount { propagation: propagation.into(), ..mount })
}

fn bind(container: &str, host: &Path, readonly: bool) -> pb::Mount {
    let host_path = host.display().to_string();
    pb::Mount { container_path: container.into(), host_path, readonly, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config() -> Config {
        Config::new("n1", Path::new("/d"), Path::new("/s"), [192, 0, 2, 1].into())
    }
    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "ns", "uid": "u"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn the_kernels_name_is_the_full_one_only_where_it_fits() {
        let full = pod(json!({"containers": [], "subdomain": "web", "setHostnameAsFQDN": true}));
        assert_eq!(kernel_hostname(&config(), &full).unwrap(), "web-0.web.ns.svc.cluster.local");
        let short = pod(json!({"containers": [], "subdomain": "web"}));
        assert_eq!(kernel_hostname(&config(), &short).unwrap(), "web-0");
        let long = pod(json!({"containers": [], "subdomain": "w".repeat(50), "setHostnameAsFQDN": true}));
        let refused = kernel_hostname(&config(), &long).unwrap_err().to_string();
        assert!(refused.ends_with("is too long (64 characters is the max, 77 characters requested)"), "{refused}");
    }

    #[test]
    fn a_volume_that_is_read_only_as_a_whole_is_so_in_every_container() {
        let pod = pod(json!({"containers": [{"name": "a", "volumeMounts": [
            {"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/w"}, {"name": "w", "mountPath": "/x", "readOnly": true}]}]}));
        let paths = ["v", "w"].map(|n| (n.to_owned(), PathBuf::from("/host").join(n))).into();
        let volumes = Mounted { paths, read_only: ["v".to_owned()].into(), ..Mounted::default() };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let making = Making {
            pod: &pod,
            container,
            attempt: 0,
            step: 0,
            paths: &Paths::new(Path::new("/d"), Path::new("/s")),
            volumes: &volumes,
            vars: &[],
            image: &pb::Image::default(),
            machine: Machine { memory: 0, huge: &[] },
            target: None,
            seccomp: false,
        };
        let mounts = container.volume_mounts.iter().flatten().map(|m| volume_mount(&making, m).unwrap().readonly);
        assert_eq!(mounts.collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn hosts_name_the_pod() {
        let text = hosts(
            &config(),
            &pod(
                json!({"containers": [], "subdomain": "web", "hostAliases": [{"ip": "1.1.1.1", "hostnames": ["a", "b"]}]}),
            ),
            &["10.42.0.5".into()],
        );
        assert!(text.contains("10.42.0.5\tweb-0.web.ns.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.1.1.1\ta\tb\n"));
    }
}
