//! secret volumes. They live in memory.

use super::Context;
use super::payload::{Payload, pick};
use crate::error::{Error, Result};
use k8s_openapi::api::core::v1::{KeyToPath, SecretVolumeSource};

pub(super) fn payload(context: &Context<'_>, source: &SecretVolumeSource) -> Result<Payload> {
    let name = source.secret_name.as_deref().unwrap_or_default();
    files(context, name, source.items.as_deref(), source.default_mode, source.optional.unwrap_or(false))
}

pub(super) fn files(
    context: &Context<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    optional: bool,
) -> Result<Payload> {
    let Some(secret) = context.lookup.secret(context.namespace(), name) else {
        return if optional { Ok(Payload::new()) } else { Err(Error::Pod(format!("secret {name:?} not found"))) };
    };
    let data = secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
    pick(data, items, mode, optional, "secret")
}
