//! kybern-node-agent
