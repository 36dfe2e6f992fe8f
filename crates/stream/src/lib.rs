//! kybern-stream
