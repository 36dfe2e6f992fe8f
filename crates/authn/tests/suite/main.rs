//! What an API server believes, and what it does not.

mod certificates;
mod connections;
mod support;
mod tokens;
