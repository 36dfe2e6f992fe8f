//! What an API server believes, and what it does not.

mod certificates;
mod connections;
mod oidc;
mod rotation;
mod support;
mod tokens;
mod webhooks;
