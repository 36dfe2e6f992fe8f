//! projected volumes: several sources in one directory. They live in memory.

use super::payload::{DEFAULT_MODE, File, Payload, relative};
use super::{Context, config_map, downward_api, secret};
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{ProjectedVolumeSource, ServiceAccountTokenProjection};
use std::path::Path;

pub(super) async fn payload(context: &mut Context<'_>, source: &ProjectedVolumeSource, dir: &Path) -> Result<Payload> {
    let mode = source.default_mode;
    let mut payload = Payload::new();
    for part in source.sources.iter().flatten() {
        let files = if let Some(m) = &part.config_map {
            config_map::files(context, &m.name, m.items.as_deref(), mode, m.optional.unwrap_or(false))?
        } else if let Some(s) = &part.secret {
            secret::files(context, &s.name, s.items.as_deref(), mode, s.optional.unwrap_or(false))?
        } else if let Some(d) = &part.downward_api {
            downward_api::files(context, d.items.as_deref().unwrap_or_default(), mode)?
        } else if let Some(t) = &part.service_account_token {
            token(context, t, mode, dir).await?
        } else {
            return Err(Error::Pod("this kind of projection is not supported".into()));
        };
        payload.extend(files);
    }
    Ok(payload)
}

async fn token(
    context: &mut Context<'_>,
    part: &ServiceAccountTokenProjection,
    mode: Option<i32>,
    dir: &Path,
) -> Result<Payload> {
    let path = relative(&part.path)?;
    let mode = u32::try_from(mode.unwrap_or(DEFAULT_MODE)).unwrap_or(0) & 0o777;
    let file = |content| Payload::from([(path.to_owned(), File { content, mode })]);
    if context.lookup.is_offline(context.pod) {
        // Nobody gives tokens now: the pod has the last one, or none after a reboot, until a server answers.
        return Ok(std::fs::read(dir.join(path)).map(file).unwrap_or_default());
    }
    let token = context.tokens.get(context.pod, part, context.now).await?;
    context.refresh = Some(context.refresh.map_or(token.refresh, |r| r.min(token.refresh)));
    Ok(file(token.text.into_bytes()))
}
