//! kybern-reconcile
