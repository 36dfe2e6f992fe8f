//! Wire protocols, generated from `proto/`: the node protocol, Raft, CRI, containerd, etcd.
//!
//! Holds no logic and imports nothing of ours.
#![expect(missing_docs, reason = "generated from the commented files in proto/")]

/// The node protocol (`proto/node.proto`).
pub mod node {
    tonic::include_proto!("kybern.node.v1");
}
