//! The node as an object: its certificate, registration, lease, capacity and conditions.

pub mod capacity;
pub mod certificate;
pub mod guard;
pub mod lease;
pub mod pressure;
pub mod rotation;
pub mod shutdown;
pub mod stats;
pub mod status;
pub mod system;
pub mod trust;
