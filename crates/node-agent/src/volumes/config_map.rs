//! configMap volumes.

use super::Context;
use super::payload::{Payload, pick};
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath};

pub(super) fn payload(context: &Context<'_>, source: &ConfigMapVolumeSource) -> Result<Payload> {
    files(context, &source.name, source.items.as_deref(), source.default_mode, source.optional.unwrap_or(false))
}

pub(super) fn files(
    context: &Context<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    optional: bool,
) -> Result<Payload> {
    let Some(map) = context.lookup.config_map(context.namespace(), name) else {
        return if optional { Ok(Payload::new()) } else { Err(Error::Pod(format!("configmap {name:?} not found"))) };
    };
    let texts = map.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes()));
    let binary = map.binary_data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0));
    pick(texts.chain(binary).collect(), items, mode, optional, "configmap")
}
