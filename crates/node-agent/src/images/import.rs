//! Puts an archive's images into containerd, where CRI finds them.

use super::archive::{Blob, Bundle, Node};
use super::content::in_cri;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use bytes::Bytes;
use kybern_wire::containerd::services::content::v1 as content;
use kybern_wire::containerd::services::images::v1 as images;
use kybern_wire::containerd::services::leases::v1 as leases;
use kybern_wire::containerd::types::Descriptor;
use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Marks an image as one CRI may use.
const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");
/// Bytes of one write; containerd takes messages of up to 16 MiB.
const CHUNK: usize = 1 << 20;

/// Imports images through containerd's own services.
#[derive(Debug, Clone)]
pub struct Importer {
    channel: Channel,
}

impl Importer {
    /// Over a channel to containerd.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Imports every image of the bundle; their names. Returns when CRI knows them.
    ///
    /// # Errors
    /// When a blob does not match its digest, or containerd refuses.
    pub async fn import(&self, bundle: &Bundle, runtime: &dyn Runtime, lease: &str) -> Result<Vec<String>> {
        let lease = self.lease(lease).await?;
        let result = self.import_under(bundle, &lease).await;
        let request = self.request(leases::DeleteRequest { id: lease.clone(), sync: false }, "");
        let released = self.leases().delete(request).await.map_err(Error::runtime("DeleteLease"));
        let names = result?;
        released?;
        for name in &names {
            wait_until_known(runtime, name).await?;
        }
        Ok(names)
    }

    async fn import_under(&self, bundle: &Bundle, lease: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for (name, root) in bundle.images() {
            for node in bundle.walk(root)? {
                let Some(blob) = bundle.blob(&node.descriptor.digest) else { continue };
                self.write(blob, &node, lease).await?;
            }
            self.tag(name, root, lease).await?;
            names.push(name.clone());
        }
        Ok(names)
    }

    fn leases(&self) -> leases::leases_client::LeasesClient<Channel> {
        leases::leases_client::LeasesClient::new(self.channel.clone())
    }

    /// A request in CRI's namespace, under a lease unless that is empty.
    fn request<T>(&self, body: T, lease: &str) -> Request<T> {
        let mut request = in_cri(body);
        if let Ok(value) = MetadataValue::try_from(lease)
            && !lease.is_empty()
        {
            request.metadata_mut().insert("containerd-lease", value);
        }
        request
    }

    /// What was written stays uncollected until the lease is deleted. A lease that an interrupted
    /// import left is used again.
    async fn lease(&self, id: &str) -> Result<String> {
        let request = self.request(leases::CreateRequest { id: id.into(), labels: HashMap::new() }, "");
        match self.leases().create(request).await {
            Ok(_) => Ok(id.into()),
            Err(s) if s.code() == Code::AlreadyExists => Ok(id.into()),
            Err(s) => Err(Error::runtime("CreateLease")(s)),
        }
    }

    /// Writes one blob; containerd checks size and digest at the commit.
    async fn write(&self, blob: &Blob, node: &Node, lease: &str) -> Result<()> {
        let digest = &node.descriptor.digest;
        let total = i64::try_from(blob.size()).unwrap_or(i64::MAX);
        let labels = node.references.iter().map(|(l, d)| (format!("containerd.io/gc.ref.content.{l}"), d.clone()));
        let last = content::WriteContentRequest {
            action: content::WriteAction::Commit.into(),
            r#ref: format!("import-{digest}"),
            total,
            expected: digest.clone(),
            labels: labels.collect(),
            ..Default::default()
        };
        let (send, receive) = tokio::sync::mpsc::channel(2);
        let request = self.request(tokio_stream::wrappers::ReceiverStream::new(receive), lease);
        let mut client = content::content_client::ContentClient::new(self.channel.clone());
        let (fed, answered) = tokio::join!(feed(blob.clone(), last, send), async {
            let mut answers = client.write(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok::<(), Status>(())
        });
        match answered {
            Err(s) if s.code() == Code::AlreadyExists => Ok(()),
            Err(s) => Err(Error::runtime("WriteContent")(s)),
            Ok(()) => fed.map_err(|e| Error::Archive { path: digest.clone(), why: e.to_string() }),
        }
    }

    /// Creates or moves the name.
    async fn tag(&self, name: &str, root: &super::archive::Descriptor, lease: &str) -> Result<()> {
        let image = images::Image {
            name: name.into(),
            labels: HashMap::from([(MANAGED.0.to_owned(), MANAGED.1.to_owned())]),
            target: Some(Descriptor {
                media_type: root.media_type.clone(),
                digest: root.digest.clone(),
                size: i64::try_from(root.size).unwrap_or(i64::MAX),
                annotations: HashMap::new(),
            }),
        };
        let mut client = images::images_client::ImagesClient::new(self.channel.clone());
        let create = self.request(images::CreateImageRequest { image: Some(image.clone()) }, lease);
        match client.create(create).await {
            Ok(_) => Ok(()),
            Err(s) if s.code() == Code::AlreadyExists => {
                let update = images::UpdateImageRequest { image: Some(image), update_mask: None };
                client.update(self.request(update, lease)).await.map(drop).map_err(Error::runtime("UpdateImage"))
            }
            Err(s) => Err(Error::runtime("CreateImage")(s)),
        }
    }
}

/// Sends a blob in chunks, the last with the commit. A closed channel means that containerd has
/// answered already, which the caller sees.
async fn feed(
    blob: Blob,
    commit: content::WriteContentRequest,
    send: tokio::sync::mpsc::Sender<content::WriteContentRequest>,
) -> std::io::Result<()> {
    tokio::task::spawn_blocking(move || {
        let mut reader = blob.open()?;
        let mut offset = 0;
        while offset < blob.size() {
            let mut chunk = vec![0; CHUNK.min(usize::try_from(blob.size() - offset).unwrap_or(CHUNK))];
            reader.read_exact(&mut chunk)?;
            let part = content::WriteContentRequest {
                action: content::WriteAction::Write.into(),
                offset: i64::try_from(offset).unwrap_or(i64::MAX),
                data: Bytes::from(chunk),
                labels: HashMap::new(),
                ..commit.clone()
            };
            offset += part.data.len() as u64;
            if send.blocking_send(part).is_err() {
                return Ok(());
            }
        }
        let _ = send.blocking_send(content::WriteContentRequest { offset: commit.total, ..commit });
        Ok(())
    })
    .await
    .map_err(std::io::Error::other)?
}

/// CRI learns of an image from containerd's events, a moment after the import, and tells nobody when
/// it has; so it is asked until it knows, at growing distances.
async fn wait_until_known(runtime: &dyn Runtime, name: &str) -> Result<()> {
    let mut pause = Duration::from_millis(5);
    for _ in 0..10 {
        if runtime.image(name).await?.is_some() {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Err(Error::Archive { path: name.into(), why: "imported, but the runtime does not list it".into() })
}
