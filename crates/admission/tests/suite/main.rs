//! What is let into the store, and in which shape.

mod chain;
mod classes;
mod limits;
mod nodes;
mod plugins;
mod pod_security;
mod world;
