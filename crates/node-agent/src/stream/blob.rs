//! Content of this node's images, for other nodes.

use super::{Opening, Services};
use kybern_api::error::{Reason, Status};
use kybern_wire::node::{Blob, Opened};

/// The channel's stream.
const DATA: u32 = 0;

/// Sends a blob that the node has whole.
pub(super) async fn send(services: &Services, wanted: Blob, opening: Opening) {
    let Blob { digest, offset } = wanted;
    let missing = || Status::new(Reason::NotFound, format!("the node has no content {digest}"));
    let Some(content) = &services.content else { return opening.refuse(&missing()) };
    let length = match content.size(&digest).await {
        Ok(Some(length)) => length,
        Ok(None) => return opening.refuse(&missing()),
        Err(e) => return opening.refuse(&Status::internal(e.to_string())),
    };
    if offset > length {
        return opening.refuse(&Status::bad_request(format!("{digest} ends before {offset}")));
    }
    let mut parts = match content.read(&digest, offset).await {
        Ok(parts) => parts,
        Err(e) => return opening.refuse(&Status::internal(e.to_string())),
    };
    let channel = opening.answer(Opened { code: 200, content_type: String::new(), length });
    loop {
        match parts.message().await {
            // A lost server needs no answer.
            Ok(Some(part)) => {
                if channel.sender.send(DATA, part.data).await.is_err() {
                    return;
                }
            }
            Ok(None) => return channel.sender.close(""),
            Err(e) => return channel.sender.close(e.message()),
        }
    }
}
