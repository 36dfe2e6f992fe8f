//! Cluster DNS on every node: answers for services and their endpoints straight from the watched objects,
//! and forwards other names to the upstream servers. No polling, no copy of the zone.

mod custom;
mod forward;
mod server;
mod zone;

pub use custom::Custom;
pub use forward::Upstream;
pub use server::{Dns, DnsError, claim};
pub use zone::Zone;
