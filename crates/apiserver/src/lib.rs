//! kybern-apiserver

pub mod discovery;
pub mod doors;
pub mod fields;
pub mod nodes;
pub mod openapi;
pub mod patch;
