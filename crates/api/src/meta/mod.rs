//! What all objects share: names, labels, selectors, owner references, quantities, times.

pub mod names;
pub mod quantity;
pub mod selector;
pub mod time;
mod validate;

pub use validate::{ANNOTATIONS_MAX, annotations, labels, validate};
