//! Images: getting them into the runtime from archives and registries.

pub mod archive;
pub mod import;
pub mod pull;
pub mod reference;
