//! TCP connections carried over a channel: into a pod's network namespace, or from the node's own.

use super::{Opening, Services};
use crate::net::netns;
use bytes::BytesMut;
use kybern_api::error::Status;
use kybern_stream::mux::Channel;
use kybern_wire::node::{Dial, PortForward};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECT: Duration = Duration::from_secs(10);
const CHUNK: usize = 32 * 1024;
/// The channel's stream for both directions.
const DATA: u32 = 0;

/// Connects to a port of the pod, on the loopback of its network namespace.
pub(super) async fn forward(services: &Services, forward: PortForward, opening: Opening) {
    let connected = async {
        let port = port(forward.port)?;
        let sandbox = services.containers.sandbox(&forward.namespace, &forward.pod, &forward.uid).await?;
        let pid = services.containers.sandbox_pid(&sandbox).await?;
        let netns = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let tcp = tokio::task::spawn_blocking(move || netns::run_in(&netns, move || connect_loopback(port)));
        let tcp = tcp.await.map_err(|e| Status::internal(e.to_string()))?;
        tcp.and_then(TcpStream::from_std)
            .map_err(|e| Status::internal(format!("connect to port {port} of the pod: {e}")))
    };
    serve(connected.await, opening).await;
}

/// Connects from the node's network namespace.
pub(super) async fn dial(dial: Dial, opening: Opening) {
    let connected = async {
        let ip: IpAddr = dial.ip.parse().map_err(|_| Status::bad_request(format!("{} is no IP address", dial.ip)))?;
        let address = SocketAddr::new(ip, port(dial.port)?);
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
        connecting
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|e| Status::internal(format!("dial {address}: {e}")))
    };
    serve(connected.await, opening).await;
}

fn port(port: u32) -> Result<u16, Status> {
    u16::try_from(port).ok().filter(|p| *p > 0).ok_or_else(|| Status::bad_request(format!("{port} is no port")))
}

/// IPv4 first: that is where most programs listen.
fn connect_loopback(port: u16) -> io::Result<std::net::TcpStream> {
    let connect = |ip: IpAddr| std::net::TcpStream::connect_timeout(&SocketAddr::new(ip, port), CONNECT);
    let stream = connect(Ipv4Addr::LOCALHOST.into()).or_else(|e| connect(Ipv6Addr::LOCALHOST.into()).map_err(|_| e))?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

async fn serve(connected: Result<TcpStream, Status>, opening: Opening) {
    match connected {
        Ok(tcp) => carry(tcp, opening.accept(200, "")).await,
        Err(status) => opening.refuse(&status),
    }
}

/// Carries bytes both ways until the connection's side has ended, or the channel is over.
async fn carry(tcp: TcpStream, channel: Channel) {
    tcp.set_nodelay(true).ok();
    let (mut read, mut write) = tcp.into_split();
    let Channel { sender, mut receiver } = channel;
    let from_connection = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match read.read_buf(&mut buffer).await {
                Ok(0) => break sender.end(DATA).map(|()| String::new()),
                Ok(_) => {
                    if let Err(e) = sender.send(DATA, buffer.split().freeze()).await {
                        break Err(e);
                    }
                }
                Err(e) => break Ok(e.to_string()),
            }
        }
    };
    // True: the channel is over. False: it only says nothing more, the connection may still answer.
    let to_connection = async {
        loop {
            match receiver.recv().await {
                Ok(Some(data)) => {
                    let written = write.write_all(&data.bytes).await;
                    if written.is_err() || data.end && write.shutdown().await.is_err() {
                        return std::future::pending().await;
                    }
                }
                Ok(None) | Err(_) => return,
            }
        }
    };
    tokio::select! {
        ended = from_connection => sender.close(&ended.unwrap_or_default()),
        () = to_connection => {}
    }
}
