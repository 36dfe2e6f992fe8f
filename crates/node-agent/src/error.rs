//! What can go wrong on a node. A variant names the operation that failed.

use kybern_api::error::{Reason, Status};
use std::path::Path;

/// Errors of the node agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process lacks the rights containers need.
    #[error("not root: the node agent starts containers and must run as root")]
    NotRoot,
    /// A program the node needs is not installed.
    #[error("{program} is not installed: install the package {package}")]
    MissingProgram {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A file operation.
    #[error("{action} {path}: {source}")]
    File {
        /// What was being done: `write`, `mount`, ...
        action: &'static str,
        /// To which file.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A call to the container runtime.
    #[error("{message}")]
    Runtime {
        /// The call, for example `CreateContainer`.
        call: &'static str,
        /// gRPC code.
        code: tonic::Code,
        /// The runtime's text.
        message: String,
    },
    /// The runtime did not come up.
    #[error("containerd does not start: {0}")]
    RuntimeStart(String),
    /// A request to the API.
    #[error(transparent)]
    Api(#[from] Status),
    /// An object that the API answered does not decode.
    #[error("decode {what}: {source}")]
    Decode {
        /// What was being decoded.
        what: &'static str,
        /// Why it failed.
        source: serde_json::Error,
    },
    /// An image archive that cannot be used.
    #[error("image {path}: {why}")]
    Archive {
        /// The archive.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A settings file that cannot be used.
    #[error("{path}: {why}")]
    Settings {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A pod that cannot be set up as it is written (a missing key, an unknown volume kind).
    #[error("{0}")]
    Pod(String),
    /// A volume of a pod.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
    Volume {
        /// Its name in the pod.
        volume: String,
        /// Why.
        why: String,
    },
    /// The node's certificate cannot be had.
    #[error("node certificate: {0}")]
    Certificate(String),
}

/// Result of the node agent's operations.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps a file error.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { action, path, source }
    }
    /// Wraps a runtime answer.
    pub(crate) fn runtime(call: &'static str) -> impl FnOnce(tonic::Status) -> Self {
        move |s| Self::Runtime { call, code: s.code(), message: s.message().to_owned() }
    }
    /// Does the runtime not know the thing?
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Runtime { code, .. } => *code == tonic::Code::NotFound,
            Self::Api(status) => status.reason == Reason::NotFound,
            Self::File { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }
}
