//! Rules that several kinds share, and the field cursor that all validation is written with.

mod addresses;
mod container;
mod data;
pub mod field;
mod pod_spec;
mod pod_update;
mod probes;
mod profiles;
pub mod quantities;
mod scheduling;
pub mod selectors;
mod template;
mod volumes;
mod workload;

pub use addresses::{cidr, ip, not_special, special};
pub use data::{data_keys, sealed_data};
pub use field::Field;
pub use pod_spec::pod_spec;
pub use pod_update::{pod_ephemeral, pod_resize, pod_update};
pub use probes::port;
pub use scheduling::{taints, tolerations};
pub use template::{Holder, template};
pub(crate) use volumes::no_way_up;
pub use workload::{any_share, collisions, counts, is_zero_share, parts, share, workload};

use crate::kind::{Causes, Context};
use serde_json::Value;

/// Checks metadata; see [`crate::meta::validate`].
pub fn metadata(ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
    crate::meta::validate(ctx.def, obj, old, out);
}
