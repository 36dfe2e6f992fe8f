//! The container engine of a node.

use super::Runtime;
use super::containerd::{Containerd, Tell};
use super::cri::{Cri, channel};
use crate::config::Config;
use crate::error::Result;
use crate::images::content::Content;
use crate::images::import::Importer;
use crate::images::registries::Registries;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The container engine: an own containerd, or somebody else's.
pub enum Engine {
    /// Started and kept by the agent.
    Own(Box<Containerd>),
    /// Only spoken to.
    Foreign(Box<Cri>),
}

impl Engine {
    /// Starts or adopts it. `peers` is where an own one finds content of other nodes.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(config: &Config, registries: &Registries, peers: Option<&str>) -> Result<Self> {
        if let Some(socket) = &config.runtime_endpoint {
            let cri = Cri::new(channel(socket)?);
            cri.version().await?;
            return Ok(Self::Foreign(Box::new(cri)));
        }
        registries.write(&config.paths().registry_hosts(), peers)?;
        let containerd = Containerd::start(&config.paths()).await?;
        containerd.ensure_pause_image().await?;
        Ok(Self::Own(Box::new(containerd)))
    }
    /// Its CRI.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        match self {
            Self::Own(containerd) => Arc::new(containerd.cri()),
            Self::Foreign(cri) => Arc::new(cri.as_ref().clone()),
        }
    }
    /// Puts images into it; a foreign one is only asked to pull.
    pub fn importer(&self) -> Option<Importer> {
        match self {
            Self::Own(containerd) => Some(Importer::new(containerd.channel())),
            Self::Foreign(_) => None,
        }
    }
    /// Its content store; of a foreign one nothing is known.
    pub fn content(&self) -> Option<Content> {
        match self {
            Self::Own(containerd) => Some(Content::new(containerd.channel())),
            Self::Foreign(_) => None,
        }
    }
    /// Forwards events. Of a foreign runtime there are none: the relist sees what it does.
    pub async fn supervise(self, tell: Tell, cancel: CancellationToken) {
        match self {
            Self::Own(mut containerd) => containerd.supervise(tell, cancel).await,
            Self::Foreign(_) => cancel.cancelled().await,
        }
    }
}
