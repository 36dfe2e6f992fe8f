//! kybern-e2e
