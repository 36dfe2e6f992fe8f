//! StorageObjectInUseProtection: claims and volumes get a finalizer, so that they go only when nobody
//! uses them any more.

use crate::paths::{list_mut, object_mut};
use crate::plugin::{Env, Operation, Plugin, Request};
use kybern_api::error::Status;
use serde_json::Value;

const FINALIZERS: [(&str, &str); 2] =
    [("persistentvolumeclaims", "kubernetes.io/pvc-protection"), ("persistentvolumes", "kubernetes.io/pv-protection")];

#[derive(Debug)]
pub(crate) struct StorageObjectInUseProtection;

impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn mutate(&self, req: &Request<'_>, obj: Option<&mut Value>, _env: &Env<'_>) -> Result<(), Status> {
        let row = FINALIZERS.iter().find(|(resource, _)| req.is_main("", resource, &[Operation::Create]));
        let (Some((_, finalizer)), Some(object)) = (row, obj) else { return Ok(()) };
        if let Some(list) = object_mut(object, "metadata").and_then(|metadata| list_mut(metadata, "finalizers"))
            && !list.iter().any(|found| found == finalizer)
        {
            list.push((*finalizer).into());
        }
        Ok(())
    }
}
