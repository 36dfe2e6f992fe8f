//! Images: getting them into the runtime from archives and registries.

pub mod archive;
pub mod content;
pub mod credentials;
pub mod directory;
pub mod gc;
pub mod import;
pub mod pull;
pub mod reference;
pub mod registries;
pub mod share;
