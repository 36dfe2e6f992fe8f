//! Who may do what.

mod bindings;
mod defaults;
mod escalation;
mod nodes;
mod world;
