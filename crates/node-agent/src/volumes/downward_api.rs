//! downwardAPI volumes: fields of the pod as files.

use super::Context;
use super::payload::{DEFAULT_MODE, File, Payload, relative};
use crate::error::{Error, Result};
use crate::pods::fields;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, DownwardAPIVolumeSource};

pub(super) fn payload(context: &Context<'_>, source: &DownwardAPIVolumeSource) -> Result<Payload> {
    files(context, source.items.as_deref().unwrap_or_default(), source.default_mode)
}

pub(super) fn files(context: &Context<'_>, items: &[DownwardAPIVolumeFile], mode: Option<i32>) -> Result<Payload> {
    let mut payload = Payload::new();
    for item in items {
        let text = if let Some(f) = &item.field_ref {
            fields::field(context.pod, context.around, &f.field_path)?
        } else if let Some(r) = &item.resource_field_ref {
            let name = r.container_name.as_deref().unwrap_or_default();
            let spec = context.pod.spec.as_ref();
            let container = spec
                .and_then(|s| s.containers.iter().find(|c| c.name == name))
                .ok_or_else(|| Error::Pod(format!("container {name:?} not found")))?;
            fields::resource(container, context.around, r)?
        } else {
            continue;
        };
        let mode = item.mode.or(mode).unwrap_or(DEFAULT_MODE);
        let file = File { content: text.into_bytes(), mode: u32::try_from(mode).unwrap_or(0) & 0o777 };
        payload.insert(relative(&item.path)?.to_owned(), file);
    }
    Ok(payload)
}
