//! containerd's content store: blobs by digest.

use crate::error::{Error, Result};
use kybern_wire::containerd::services::content::v1 as pb;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

/// The containerd namespace CRI works in.
const NAMESPACE: &str = "k8s.io";

/// The content that containerd keeps for CRI.
#[derive(Debug, Clone)]
pub struct Content {
    channel: Channel,
}

impl Content {
    /// Over a channel to containerd.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    fn client(&self) -> pb::content_client::ContentClient<Channel> {
        pb::content_client::ContentClient::new(self.channel.clone())
    }

    /// Bytes of a blob; None: it is not there (as a whole).
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn size(&self, digest: &str) -> Result<Option<u64>> {
        let asked = self.client().info(in_cri(pb::InfoRequest { digest: digest.into() })).await;
        match asked {
            Ok(answer) => Ok(answer.into_inner().info.and_then(|i| u64::try_from(i.size).ok())),
            Err(s) if matches!(s.code(), Code::NotFound | Code::InvalidArgument) => Ok(None),
            Err(s) => Err(Error::runtime("ContentInfo")(s)),
        }
    }

    /// A blob's bytes from `offset` to its end.
    ///
    /// # Errors
    /// When containerd does not answer.
    pub async fn read(&self, digest: &str, offset: u64) -> Result<Streaming<pb::ReadContentResponse>> {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let request = in_cri(pb::ReadContentRequest { digest: digest.into(), offset, size: 0 });
        let answer = self.client().read(request).await.map_err(Error::runtime("ReadContent"))?;
        Ok(answer.into_inner())
    }
}

/// A request in CRI's namespace.
pub(super) fn in_cri<T>(body: T) -> Request<T> {
    let mut request = Request::new(body);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    request
}
