//! What the store holds, per kind, ready to be listed and watched: one copy of the bytes, shared.
//!
//! One feeder task ([`feeder`]) follows the store and applies every revision, in order, to the caches
//! of the kinds it touches; then the shared revision moves on, so that quiet kinds advance as well.

pub mod feeder;
pub mod kind;
mod lister;
mod news;
pub mod selector;
pub mod watcher;
pub mod window;

pub use feeder::Caches;
pub use kind::{KindCache, Snapshot};
pub use selector::Selector;
pub use watcher::{Item, Watcher};
pub use window::{Change, FrameKey};
