//! kybern-apiserver
