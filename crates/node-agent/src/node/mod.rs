//! The node as an object: its certificate, registration, lease, capacity and conditions.

pub mod capacity;
pub mod certificate;
pub mod lease;
pub mod status;
pub mod system;
