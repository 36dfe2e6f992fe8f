//! Wire protocols, generated from `proto/`: the node protocol, Raft, CRI, containerd, etcd.
//!
//! Holds no logic and imports nothing of ours.
#![expect(missing_docs, clippy::allow_attributes, reason = "generated from the commented files in proto/")]

/// The node protocol (`proto/node.proto`).
pub mod node {
    tonic::include_proto!("kybern.node.v1");
}

/// The container runtime interface (`proto/cri.proto`).
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// containerd's own services (`proto/containerd_*.proto`). The modules nest as the protobuf packages
/// do, because generated code refers to its neighbours by relative paths.
pub mod containerd {
    /// Shared types.
    pub mod types {
        tonic::include_proto!("containerd.types");
    }
    /// Event payloads.
    pub mod events {
        tonic::include_proto!("containerd.events");
    }
    /// The services, each in its version.
    pub mod services {
        /// Blobs by digest.
        pub mod content {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!("containerd.services.content.v1");
            }
        }
        /// Image names.
        pub mod images {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!("containerd.services.images.v1");
            }
        }
        /// Protection from garbage collection.
        pub mod leases {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!("containerd.services.leases.v1");
            }
        }
        /// The event stream.
        pub mod events {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!("containerd.services.events.v1");
            }
        }
        /// The daemon's version.
        pub mod version {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!("containerd.services.version.v1");
            }
        }
    }
}

/// Between the members of the store (`proto/raft.proto`).
pub mod raft {
    tonic::include_proto!("kybern.raft.v1");
}
