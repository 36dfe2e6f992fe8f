//! One attempt at what probes and hooks do: run a command, open a connection, ask for a service's health.

use crate::runtime::Runtime;
use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;
use tokio::net::TcpStream;

/// So much of a failed command's output is told.
const MAX_OUTPUT: usize = 1024;

/// Where a container is reached.
#[derive(Debug, Clone)]
pub struct Target {
    /// Runtime id.
    pub id: String,
    /// Its pod's address.
    pub ip: String,
    /// Its spec, for named ports.
    pub container: Container,
}

impl Target {
    pub(super) fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(n) => Some(*n),
            IntOrString::String(name) => self
                .container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name))
                .map(|p| p.container_port)
                .or_else(|| name.parse().ok()),
        };
        number.and_then(|n| u16::try_from(n).ok()).ok_or_else(|| format!("couldn't find port: {port:?}"))
    }
}

pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err("context deadline exceeded".into()))
}

/// Runs a command in the container.
///
/// # Errors
/// Its output, when it ends with another code than 0 or not in time.
pub async fn exec(runtime: &dyn Runtime, target: &Target, action: &ExecAction, limit: Duration) -> Result<(), String> {
    let command = action.command.clone().unwrap_or_default();
    within(limit, async {
        let answer = runtime.exec_sync(&target.id, &command, limit).await.map_err(|e| e.to_string())?;
        if answer.exit_code == 0 {
            return Ok(());
        }
        let output = [&answer.stdout[..], &answer.stderr[..]].concat();
        Err(String::from_utf8_lossy(&output).chars().take(MAX_OUTPUT).collect::<String>())
    })
    .await
}

/// The request and the answer of `grpc.health.v1.Health/Check`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthAnswer {
    /// 1: it serves.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Words for the other values of a [`HealthAnswer`]'s status.
const HEALTH: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: i32 = 1;

/// Asks the container's gRPC health service.
///
/// # Errors
/// What went wrong.
pub async fn grpc(target: &Target, action: &GRPCAction, limit: Duration) -> Result<(), String> {
    let port = u16::try_from(action.port).map_err(|_| format!("{} is no port", action.port))?;
    let address = std::net::SocketAddr::new(target.ip.parse().map_err(|_| "the pod has no address".to_owned())?, port);
    let call = async {
        let endpoint =
            tonic::transport::Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
        let unconnected = format!("timeout: failed to connect service \"{address}\" within {limit:?}");
        let channel = endpoint.connect().await.map_err(|e| format!("{unconnected}: {e}"))?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(|e| e.to_string())?;
        let request = tonic::Request::new(HealthRequest { service: action.service.clone().unwrap_or_default() });
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = tonic_prost::ProstCodec::<HealthRequest, HealthAnswer>::default();
        let answer = client.unary(request, path, codec).await.map_err(|e| match e.code() {
            tonic::Code::Unimplemented => {
                format!(
                    "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                    e.message()
                )
            }
            _ => format!("service unhealthy (responded with {:?}): {}", e.code(), e.message()),
        })?;
        let status = answer.into_inner().status;
        let word = usize::try_from(status).ok().and_then(|s| HEALTH.get(s)).unwrap_or(&"UNKNOWN");
        if status == SERVING { Ok(()) } else { Err(format!("service unhealthy (responded with \"{word}\")")) }
    };
    within(limit, call).await
}

/// Opens a connection to the container.
///
/// # Errors
/// What went wrong.
pub async fn tcp(target: &Target, action: &TCPSocketAction, limit: Duration) -> Result<(), String> {
    let port = target.port(&action.port)?;
    let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&target.ip);
    within(limit, async { TcpStream::connect((host, port)).await.map(drop).map_err(|e| e.to_string()) }).await
}
