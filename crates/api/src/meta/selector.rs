//! Label and field selectors: parse, match, and print.

mod fields;
mod labels;
mod parse;

pub use fields::FieldSelector;
pub use labels::{Labels, Operator, Requirement, Selector};
