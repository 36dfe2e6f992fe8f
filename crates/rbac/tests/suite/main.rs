//! Who may do what.

mod bindings;
mod defaults;
mod escalation;
mod matrix;
mod nodes;
mod world;
