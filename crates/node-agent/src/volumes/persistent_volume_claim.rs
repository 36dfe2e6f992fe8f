//! Claimed volumes: whatever volume the claim is bound to.

use super::{Context, Kind, host_path, local, nfs};
use crate::config::Paths;
use crate::error::{Error, Result};
use crate::references::Claim;

/// The volume of a claim on this node.
pub(super) async fn resolve<'a>(context: &Context<'_>, paths: &Paths, claim: Claim<'_>) -> Result<Kind<'a>> {
    let volume = context.lookup.volume_of(context.pod, claim).await?;
    let node = context.pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default();
    let spec = volume.spec.clone().unwrap_or_default();
    if let Some(source) = &spec.local {
        return local::resolve(paths, &volume, source, node, context.fs_group()).map(Kind::Host);
    }
    if let Some(source) = &spec.nfs {
        return Ok(Kind::Nfs(nfs::Export::of(source, spec.mount_options.unwrap_or_default())));
    }
    match &spec.host_path {
        Some(source) => host_path::resolve(source).map(Kind::Host),
        None => Err(Error::Pod("this kind of persistent volume is not supported".into())),
    }
}
