//! kybern-apiserver

pub mod doors;
pub mod nodes;
