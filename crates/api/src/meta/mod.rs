//! What all objects share: names, labels, selectors, owner references, quantities, times.

pub mod quantity;
pub mod time;
