//! Commands in containers, and their own processes' streams: exec and attach.

use crate::nodes::NodeChannel;
use crate::present::body::Body;
use crate::registry::kinds::Resource;
use crate::request::chain::Authorized;
use crate::request::query::Query;
use crate::server::ApiServer;
use crate::subresource::target::Pod;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kybern_api::error::{Reason, Status};
use kybern_stream::negotiate::{self, Accepted};
use kybern_stream::session::{Channel, Session, Wanted};
use kybern_stream::{Error, relay};
use kybern_wire::node as pb;
use kybern_wire::node::open::What;

/// Connects the client to a command in a container, or to the container's process.
pub(crate) async fn run(
    server: &ApiServer,
    resource: &Resource,
    auth: &Authorized,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let pod = Pod::of(server, resource, auth).await?;
    let node = pod.host()?;
    let wanted = wanted(&auth.query)?;
    let exec = pb::Exec {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        container: pod.container(auth.query.get("container"))?,
        command: auth.query.all("command").map(str::to_owned).collect(),
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        tty: wanted.tty,
    };
    let what = if auth.attributes.subresource == "attach" {
        What::Attach(pb::Exec { command: Vec::new(), ..exec })
    } else if exec.command.is_empty() {
        return Err(Status::bad_request("you must specify at least one command for the container"));
    } else {
        What::Exec(exec)
    };
    let accepted = negotiate::remote_command(request.headers()).map_err(not_upgradable)?;
    let upgrade = hyper::upgrade::on(&mut request);
    // What the node refuses is said while there still is an HTTP answer to say it in.
    let channel = server.0.nodes.open(node, what).await?;
    let Accepted { framing, headers } = accepted;
    let drain = server.0.drain.clone();
    server.0.tasks.spawn(async move {
        let session = async {
            let io = TokioIo::new(upgrade.await.map_err(std::io::Error::other)?);
            Session::accept(io, framing, wanted).await
        };
        match session.await {
            Ok(session) => tokio::select! {
                () = carry(session, channel) => {}
                () = drain.cancelled() => {}
            },
            Err(error) => tracing::debug!(%error, "remote command did not begin"),
        }
    });
    Ok(switching(headers))
}

/// 101.
pub(super) fn switching(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// 400 for a request that asks for no upgrade, or for none that we know.
pub(super) fn not_upgradable(error: Error) -> Status {
    Status::bad_request(error.to_string())
}

fn wanted(query: &Query) -> Result<Wanted, Status> {
    let tty = query.flag("tty");
    let wanted =
        Wanted { stdin: query.flag("stdin"), stdout: query.flag("stdout"), stderr: query.flag("stderr") && !tty, tty };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(wanted)
}

/// Carries the streams until the command or the client ends, and says how the command broke off.
async fn carry(session: Session, channel: NodeChannel) {
    let plain = session.sender.plain_status();
    let form = move |status: Bytes| if plain { plain_text(&status) } else { status };
    let (mut session, ended) = relay::remote_command(session, channel.channel, form).await;
    if let Some(error) = ended {
        let status = Status::from_json(500, error.to_string().as_bytes())
            .unwrap_or_else(|| Status::new(Reason::InternalError, error.to_string()));
        let status = form(status.to_json().into());
        session.sender.send(Channel::Error, status).await.ok();
    }
    session.close().await;
}

/// The final status for the oldest protocols: a text, and nothing at all after success.
fn plain_text(status: &[u8]) -> Bytes {
    #[derive(serde::Deserialize)]
    struct Final {
        #[serde(default)]
        status: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Final>(status) {
        Ok(f) if f.status == "Success" => Bytes::new(),
        Ok(f) => f.message.into(),
        Err(_) => Bytes::copy_from_slice(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read_from_the_query() {
        let check = |query: &str| wanted(&Query::parse(Some(query))).ok();
        let all = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
        assert_eq!(check("stdin=true&stdout=1&stderr=true"), Some(all));
        assert_eq!(check("stdin=true&stdout=1&stderr=true&tty=true"), Some(Wanted { stderr: false, tty: true, ..all }));
        assert_eq!(check("stdin=false&tty=true"), None);
    }

    #[test]
    fn old_protocols_get_a_text() {
        assert_eq!(plain_text(br#"{"status":"Success"}"#), "");
        assert_eq!(plain_text(br#"{"status":"Failure","message":"exit code 1"}"#), "exit code 1");
    }
}
