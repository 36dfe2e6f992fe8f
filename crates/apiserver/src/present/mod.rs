//! From a verb's answer to bytes: media types, renditions, bodies.

pub mod body;
pub mod list;
pub mod negotiate;
pub mod partial;
pub mod respond;
pub mod table;
pub mod watch;

pub use body::Body;
pub use negotiate::{Media, Negotiated, Rendition};

use crate::cache::Watcher;
use kybern_api::object::Object;
use serde_json::Value;

/// What a verb answers, before it is rendered for a door.
#[derive(Debug)]
pub enum Answer {
    /// An object of the request's kind, and whether it is new.
    Object(Object, bool),
    /// Another complete JSON object (a Status, a Scale, a review) and its HTTP code.
    Tree(Value, u16),
    /// A collection.
    List(Listed),
    /// A stream of changes.
    Watch(Box<Watcher>),
}

/// A page of a collection at one revision.
#[derive(Debug)]
pub struct Listed {
    /// The revision.
    pub revision: u64,
    /// The objects.
    pub items: Vec<Object>,
    /// Where the next page begins.
    pub next: Option<String>,
    /// How many come after this page, where that is known.
    pub remaining: Option<u64>,
}
