//! What is let into the store, and in which shape.

mod chain;
mod nodes;
mod plugins;
mod world;
