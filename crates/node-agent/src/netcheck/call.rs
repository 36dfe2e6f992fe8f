//! One call out of the namespace, and who answers in it. Sockets are blocking ones on threads of their own: a
//! thread has to enter the namespace to make one.

use super::PORT;
use crate::net::netns;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

/// No answer after this long is none.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 3;
/// What is sent over TCP: more than one packet of any size.
const PAGE: usize = 64 << 10;

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    kind: Kind,
    /// Who should answer, or what is asked for.
    name: String,
    to: SocketAddrV4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Another node's namespace: a page over TCP, a word over UDP.
    Pod,
    /// A port that accepts connections.
    Port,
    /// A name's address from a DNS server.
    Dns,
}

impl Call {
    /// `pod,n2,10.42.1.7:10999`, `port,kubernetes,10.43.0.1:443`, `dns,a.example,10.43.0.10:53`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(',')?;
        let (name, to) = rest.rsplit_once(',')?;
        let kind = match kind {
            "pod" => Kind::Pod,
            "port" => Kind::Port,
            "dns" => Kind::Dns,
            _ => return None,
        };
        Some(Self { kind, name: name.into(), to: to.parse().ok()? })
    }

    /// What is wrong; None: nothing.
    pub(super) async fn make(self, netns: PathBuf) -> Option<String> {
        let called = tokio::task::spawn_blocking(move || netns::run_in(&netns, move || Ok(self.inside())));
        match called.await.map_err(io::Error::other) {
            Ok(Ok(wrong)) => wrong,
            Ok(Err(e)) | Err(e) => Some(e.to_string()),
        }
    }

    fn inside(&self) -> Option<String> {
        match self.kind {
            Kind::Pod => self.page().and_then(|()| self.word()),
            Kind::Port => self.connect().map(drop),
            Kind::Dns => self.resolve(),
        }
        .err()
    }

    fn connect(&self) -> Result<TcpStream, String> {
        TcpStream::connect_timeout(&self.to.into(), PATIENCE).map_err(|e| said("TCP", &e))
    }

    fn page(&self) -> Result<(), String> {
        let mut stream = self.connect()?;
        let mut page = Vec::new();
        let read = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_to_end(&mut page));
        match read {
            Ok(_) if page.len() == PAGE && page.starts_with(&line(&self.name)) => Ok(()),
            Ok(_) => Err("TCP: somebody else answers".into()),
            Err(e) if silent(&e) => {
                Err(format!("TCP: it connects, but of {PAGE} bytes only {} come: is the MTU right?", page.len()))
            }
            Err(e) => Err(said("TCP", &e)),
        }
    }

    fn word(&self) -> Result<(), String> {
        let answer = exchange(self.to, b"who?").map_err(|e| said("UDP", &e))?;
        if answer == line(&self.name) { Ok(()) } else { Err("UDP: somebody else answers".into()) }
    }

    fn resolve(&self) -> Result<(), String> {
        let name = Name::from_str(&self.name).map_err(|e| e.to_string())?;
        let mut query = Message::new(1, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name, RecordType::A));
        let query = query.to_vec().map_err(|e| e.to_string())?;
        let answer = exchange(self.to, &query).map_err(|e| said("DNS", &e))?;
        let answer = Message::from_vec(&answer).map_err(|e| format!("DNS: {e}"))?;
        match answer.metadata.response_code {
            ResponseCode::NoError if !answer.answers.is_empty() => Ok(()),
            ResponseCode::NoError => Err("DNS: the name has no address".into()),
            code => Err(format!("DNS: {code}")),
        }
    }
}

fn line(node: &str) -> Vec<u8> {
    format!("{node}\n").into_bytes()
}

fn silent(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn said(protocol: &str, e: &io::Error) -> String {
    match e.kind() {
        _ if silent(e) => format!("{protocol}: no answer"),
        ErrorKind::ConnectionRefused => format!("{protocol}: refused"),
        _ => format!("{protocol}: {e}"),
    }
}

fn exchange(to: SocketAddrV4, text: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE / 2))?;
    let mut buffer = [0; 2048];
    for tried in 1.. {
        socket.send(text)?;
        match socket.recv(&mut buffer) {
            Err(e) if silent(&e) && tried < TRIES => {}
            other => return other.map(|n| buffer[..n].to_vec()),
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// Who answers in a namespace; ends when dropped.
#[derive(Debug)]
pub(super) struct Answering {
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Answering {
    pub(super) async fn start(netns: PathBuf, address: Ipv4Addr, node: &str) -> io::Result<Self> {
        let bound = tokio::task::spawn_blocking(move || bind(&netns, (address, PORT).into()));
        let (tcp, udp) = bound.await.map_err(io::Error::other)??;
        let (tcp, udp) = (tokio::net::TcpListener::from_std(tcp)?, tokio::net::UdpSocket::from_std(udp)?);
        let word = line(node);
        let mut page = word.clone();
        page.resize(PAGE, b'.');
        let pages = async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let page = page.clone();
                tokio::spawn(async move { tokio::time::timeout(PATIENCE, stream.write_all(&page)).await });
            }
        };
        let words = async move {
            let mut buffer = [0; 64];
            // An answer that is not taken shows as an error of the next call.
            while let Ok((_, from)) = udp.recv_from(&mut buffer).await {
                udp.send_to(&word, from).await.ok();
            }
        };
        Ok(Self { _tasks: [tokio::spawn(pages), tokio::spawn(words)].map(AbortOnDropHandle::new) })
    }
}

fn bind(netns: &Path, address: SocketAddr) -> io::Result<(std::net::TcpListener, UdpSocket)> {
    netns::run_in(netns, move || {
        let (tcp, udp) = (std::net::TcpListener::bind(address)?, UdpSocket::bind(address)?);
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Ok((tcp, udp))
    })
}
