//! kybern-apiserver

pub mod fields;
pub mod patch;
