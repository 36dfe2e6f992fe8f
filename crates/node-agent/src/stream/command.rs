//! Exec and attach: a session with the runtime's streaming server, carried over the channel.

use super::{Opening, Services};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use kybern_api::error::Status;
use kybern_stream::negotiate::{Framing, REMOTE_COMMAND_V4, check_spdy_answer, spdy_request};
use kybern_stream::relay;
use kybern_stream::session::{Session, Wanted};
use kybern_wire::cri;
use kybern_wire::node::Exec;
use std::time::Duration;
use tokio::net::TcpStream;

/// The streaming server is on this machine.
const CONNECT: Duration = Duration::from_secs(10);

/// Runs a command in a container.
pub(super) async fn exec(services: &Services, exec: Exec, opening: Opening) {
    let wanted = wanted(&exec);
    let url = async {
        let request = cri::ExecRequest {
            container_id: running(services, &exec).await?,
            cmd: exec.command,
            tty: exec.tty,
            stdin: exec.stdin,
            stdout: exec.stdout,
            stderr: wanted.stderr,
        };
        services.runtime.exec_url(request).await.map_err(|e| Status::internal(e.to_string()))
    };
    carry(url.await, wanted, opening).await;
}

/// Attaches to a container's process.
pub(super) async fn attach(services: &Services, attach: Exec, opening: Opening) {
    let wanted = wanted(&attach);
    let url = async {
        let request = cri::AttachRequest {
            container_id: running(services, &attach).await?,
            tty: attach.tty,
            stdin: attach.stdin,
            stdout: attach.stdout,
            stderr: wanted.stderr,
        };
        services.runtime.attach_url(request).await.map_err(|e| Status::internal(e.to_string()))
    };
    carry(url.await, wanted, opening).await;
}

fn wanted(exec: &Exec) -> Wanted {
    Wanted { stdin: exec.stdin, stdout: exec.stdout, stderr: exec.stderr && !exec.tty, tty: exec.tty }
}

/// The id of the container, which must be running.
async fn running(services: &Services, exec: &Exec) -> Result<String, Status> {
    let found = services.containers.find(&exec.namespace, &exec.pod, &exec.uid, &exec.container, false).await?;
    if !found.running {
        return Err(Status::internal(format!("container not found (\"{}\")", exec.container)));
    }
    Ok(found.id)
}

pub(super) async fn carry(url: Result<String, Status>, wanted: Wanted, opening: Opening) {
    let session = match url {
        Ok(url) => connect(&url, wanted).await,
        Err(status) => Err(status),
    };
    match session {
        Ok(session) => {
            let channel = opening.accept(200, "");
            // The runtime's own final status travels as it is.
            let (session, _) = relay::remote_command(session, channel, |status| status).await;
            session.close().await;
        }
        Err(status) => opening.refuse(&status),
    }
}

/// Upgrades a connection to the runtime's streaming server and opens the streams.
async fn connect(url: &str, wanted: Wanted) -> Result<Session, Status> {
    let failed = |e: &dyn std::fmt::Display| Status::internal(format!("the runtime's streaming server: {e}"));
    let uri: Uri = url.parse().map_err(|e| failed(&e))?;
    let authority = uri.authority().ok_or_else(|| failed(&"no address"))?.to_string();
    let exchange = async {
        let tcp = TcpStream::connect(&authority).await.map_err(|e| failed(&e))?;
        tcp.set_nodelay(true).ok();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(|e| failed(&e))?;
        // Ends when the connection is upgraded or fails; the session lives on in the upgraded one.
        tokio::spawn(connection.with_upgrades());
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let mut request = Request::post(path).body(Empty::<Bytes>::new()).map_err(|e| failed(&e))?;
        *request.headers_mut() = spdy_request(REMOTE_COMMAND_V4);
        let host = authority.parse().map_err(|e| failed(&e))?;
        request.headers_mut().insert(header::HOST, host);
        let answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
        check_spdy_answer(answer.status(), answer.headers(), REMOTE_COMMAND_V4).map_err(|e| failed(&e))?;
        let io = hyper::upgrade::on(answer).await.map_err(|e| failed(&e))?;
        Session::open(TokioIo::new(io), Framing::Spdy, wanted).await.map_err(|e| failed(&e))
    };
    tokio::time::timeout(CONNECT, exchange).await.unwrap_or_else(|_| Err(failed(&"no answer in time")))
}
