//! The server: UDP and TCP on the cluster's DNS address.

use super::custom::Custom;
use super::forward::Upstream;
use super::zone::{Answer, Wanted, Zone, reversed};
use arc_swap::ArcSwap;
use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use parking_lot::RwLock;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

/// Seconds that answers may be kept; CoreDNS's value for cluster names.
const TTL: u32 = 5;
/// An idle TCP connection ends after this long.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Why DNS can't be served.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The address is taken or not on this host.
    #[error("cannot serve DNS on {0}")]
    Bind(SocketAddr, #[source] std::io::Error),
}

/// Answers queries from the zone; cheap to clone.
#[derive(Debug, Clone)]
pub struct Dns {
    zone: Arc<RwLock<Zone>>,
    upstream: Upstream,
    custom: Arc<ArcSwap<Custom>>,
}

impl Dns {
    /// A server for this zone that forwards other names to `upstream`.
    pub fn new(zone: Arc<RwLock<Zone>>, upstream: Upstream) -> Self {
        Self { zone, upstream, custom: Arc::default() }
    }

    /// What is answered from lists and asked elsewhere, exchanged while it serves.
    pub fn custom(&self) -> Arc<ArcSwap<Custom>> {
        self.custom.clone()
    }

    /// Serves on `address` until `cancel`.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn serve(self, address: SocketAddr, cancel: CancellationToken) -> Result<(), DnsError> {
        let bind = |e| DnsError::Bind(address, e);
        let udp = UdpSocket::bind(address).await.map_err(bind)?;
        let tcp = TcpListener::bind(address).await.map_err(bind)?;
        let mut server = Server::new(self);
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, 64);
        cancel.cancelled().await;
        if let Err(e) = server.shutdown_gracefully().await {
            tracing::debug!("DNS server: {e}");
        }
        Ok(())
    }

    /// Records and code for a name of the cluster; None: the name is none of ours.
    fn local(&self, name: &Name, kind: RecordType) -> Option<(ResponseCode, Vec<Record>)> {
        let text = name.to_lowercase().to_ascii();
        let wanted = match kind {
            RecordType::A => Wanted::Address,
            RecordType::SRV => Wanted::Service,
            RecordType::PTR => Wanted::Pointer,
            _ => Wanted::Other,
        };
        let record = |data| Record::from_rdata(name.clone(), TTL, data);
        let target = |t: &str| Name::from_str(&format!("{}.", t.trim_end_matches('.'))).ok();
        let answers: Vec<Record> = match self.zone.read().answer(text.trim_end_matches('.'), wanted) {
            Answer::Foreign => return self.listed(name, kind),
            Answer::NoName => return Some((ResponseCode::NXDomain, Vec::new())),
            Answer::Empty => Vec::new(),
            Answer::Addresses(all) => all.into_iter().map(|a| record(RData::A(A(a)))).collect(),
            Answer::Alias(to) => target(&to).map(|n| record(RData::CNAME(CNAME(n)))).into_iter().collect(),
            Answer::Names(all) => all.iter().filter_map(|n| target(n)).map(|n| record(RData::PTR(PTR(n)))).collect(),
            Answer::Services(all) => {
                let weight = u16::try_from(100 / all.len().max(1)).unwrap_or(1).max(1);
                let srv = |(port, n): (u16, String)| Some(record(RData::SRV(SRV::new(0, weight, port, target(&n)?))));
                all.into_iter().filter_map(srv).collect()
            }
        };
        Some((ResponseCode::NoError, answers))
    }

    /// Records of a name or address that the config map lists.
    fn listed(&self, name: &Name, kind: RecordType) -> Option<(ResponseCode, Vec<Record>)> {
        let text = name.to_lowercase().to_ascii();
        let (text, custom) = (text.trim_end_matches('.'), self.custom.load());
        let record = |data| Record::from_rdata(name.clone(), TTL, data);
        if let Some(names) = text.strip_suffix(".in-addr.arpa").and_then(reversed).and_then(|a| custom.names(a)) {
            let names = names.iter().filter_map(|n| Name::from_str(&format!("{n}.")).ok());
            let found = names.filter(|_| kind == RecordType::PTR).map(|n| record(RData::PTR(PTR(n)))).collect();
            return Some((ResponseCode::NoError, found));
        }
        let addresses = custom.addresses(text)?.iter().filter(|_| kind == RecordType::A);
        Some((ResponseCode::NoError, addresses.map(|a| record(RData::A(A(*a)))).collect()))
    }

    /// The record that says how long "there is none" may be remembered.
    fn authority(&self) -> Option<Record> {
        let domain = Name::from_str(&format!("{}.", self.zone.read().domain())).ok()?;
        let server = Name::from_str("ns.dns").ok()?.append_domain(&domain).ok()?;
        let person = Name::from_str("hostmaster").ok()?.append_domain(&domain).ok()?;
        let soa = SOA::new(server, person, 1, 7200, 1800, 86400, TTL);
        Some(Record::from_rdata(domain, TTL, RData::SOA(soa)))
    }

    /// An upstream's answer: its code and records.
    async fn foreign(&self, request: &Request, name: &Name) -> (ResponseCode, Vec<Record>) {
        let (text, custom) = (name.to_lowercase().to_ascii(), self.custom.load_full());
        let upstream = custom.upstream(text.trim_end_matches('.')).unwrap_or(&self.upstream);
        if upstream.is_empty() {
            return (ResponseCode::Refused, Vec::new());
        }
        match upstream.ask(request.as_slice()).await.and_then(|raw| Message::from_vec(&raw).ok()) {
            Some(m) => (m.metadata.response_code, m.answers),
            None => (ResponseCode::ServFail, Vec::new()),
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Dns {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut out: R) -> ResponseInfo {
        let builder = MessageResponseBuilder::from_message_request(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let (code, answers, ours) = match request.request_info() {
            Err(_) => (ResponseCode::FormErr, Vec::new(), false),
            Ok(info) => match self.local(&info.query.original().name, info.query.query_type()) {
                Some((code, answers)) => (code, answers, true),
                None => {
                    let (code, answers) = self.foreign(request, &info.query.original().name).await;
                    (code, answers, false)
                }
            },
        };
        metadata.response_code = code;
        metadata.authoritative = ours;
        metadata.recursion_available = true;
        let soa: Vec<Record> =
            if ours && answers.is_empty() { self.authority().into_iter().collect() } else { Vec::new() };
        let response = builder.build(metadata, &answers, [], &soa, []);
        match out.send_response(response).await {
            Ok(info) => info,
            Err(e) => {
                tracing::debug!("cannot answer {}: {e}", request.src().ip());
                fail(request)
            }
        }
    }
}

fn fail(request: &Request) -> ResponseInfo {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = ResponseCode::ServFail;
    hickory_proto::op::Header { metadata, counts: hickory_proto::op::HeaderCounts::default() }.into()
}

/// Makes `address` one of this host's own, so that pods' queries end here.
///
/// # Errors
/// On a netlink failure.
pub async fn claim(address: IpAddr) -> std::io::Result<()> {
    let links = crate::net::link::Links::open()?;
    links.set_up("lo").await?;
    links.add_address("lo", address, 32).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode, Query};

    async fn ask(at: SocketAddr, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
        socket.send_to(&message.to_vec().unwrap(), at).await.unwrap();
        let mut buffer = [0; 1500];
        let (n, _) =
            tokio::time::timeout(Duration::from_secs(5), socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        Message::from_vec(&buffer[..n]).unwrap()
    }

    fn free_port() -> SocketAddr {
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn queries_are_answered_over_the_wire() {
        let cancel = CancellationToken::new();
        let (upper, at) = (free_port(), free_port());
        let zone = |domain: &str| {
            Arc::new(RwLock::new(if domain.is_empty() { super::super::zone::tests::zone() } else { Zone::new(domain) }))
        };
        // The upstream is a server for another domain, which knows none of its names.
        let upstream = Dns::new(zone("example.org"), Upstream::default());
        let dns = Dns::new(zone(""), Upstream::new(vec![upper]));
        let custom = dns.custom();
        let tasks = [tokio::spawn(upstream.serve(upper, cancel.clone())), tokio::spawn(dns.serve(at, cancel.clone()))];
        tokio::task::yield_now().await;

        let web = ask(at, "WEB.d.svc.cluster.local.", RecordType::A).await;
        assert_eq!(web.answers.len(), 1);
        assert!(web.metadata.authoritative);
        let none = ask(at, "nope.d.svc.cluster.local.", RecordType::A).await;
        assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(none.authorities.len(), 1, "a negative answer carries the SOA");
        let empty = ask(at, "web.d.svc.cluster.local.", RecordType::AAAA).await;
        assert_eq!((empty.metadata.response_code, empty.answers.len()), (ResponseCode::NoError, 0));
        let alias = ask(at, "out.d.svc.cluster.local.", RecordType::A).await;
        assert_eq!(alias.answers[0].record_type(), RecordType::CNAME);
        let foreign = ask(at, "x.example.org.", RecordType::A).await;
        assert_eq!(foreign.metadata.response_code, ResponseCode::NXDomain, "the upstream's own answer");
        let data = [
            (
                "x.override",
                "hosts {\n 192.0.2.7 x.example.org db.d.svc.cluster.local\n}\nforward . 127.0.0.1:1\n".to_owned(),
            ),
            ("y.server", format!("example.org {{\n forward . {upper}\n}}\n")),
        ];
        custom.store(Arc::new(Custom::read(&data.map(|(k, v)| (k.to_owned(), v)).into()).0));
        let listed = ask(at, "X.example.org.", RecordType::A).await;
        assert_eq!(listed.answers[0].data, RData::A(A([192, 0, 2, 7].into())));
        let named = ask(at, "7.2.0.192.in-addr.arpa.", RecordType::PTR).await;
        assert_eq!(named.answers.len(), 2);
        assert_eq!(ask(at, "x.example.org.", RecordType::AAAA).await.answers.len(), 0);
        let stub = ask(at, "y.example.org.", RecordType::A).await;
        assert_eq!(stub.metadata.response_code, ResponseCode::NXDomain, "the stub's own answer");
        let own = ask(at, "nope.d.svc.cluster.local.", RecordType::A).await;
        assert!(own.metadata.authoritative, "the cluster's names are not led elsewhere");
        cancel.cancel();
        for t in tasks {
            t.await.unwrap().unwrap();
        }
    }
}
