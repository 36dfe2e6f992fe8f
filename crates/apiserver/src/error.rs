//! The one place that turns failures below the API into answers, and this crate's own errors.

use kybern_api::error::{Cause, Details, Reason, Status};
use kybern_raftstore::store::Error as StoreError;

/// Why the server could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener broke.
    #[error("cannot accept connections")]
    Accept(#[source] std::io::Error),
    /// An object the server itself keeps could not be written.
    #[error("cannot write {what}")]
    Bootstrap {
        /// Which object.
        what: String,
        /// The answer to the write.
        #[source]
        source: Status,
    },
    /// The store cannot be reached.
    #[error("the store does not answer")]
    Store(#[from] StoreError),
}

/// The answer to a request that failed in the store.
pub fn of_store(error: StoreError) -> Status {
    match error {
        // Not proposed: the client may try again at once, here or elsewhere.
        StoreError::NoLeader(_) | StoreError::Stopped | StoreError::Lagged => retry_later(),
        // Perhaps applied: the client must look before it repeats. Never proposed again by us.
        StoreError::Unknown(_) => Status::new(
            Reason::Timeout,
            "Timeout: the outcome of the request is unknown: it may or may not have been carried out",
        ),
        StoreError::Compacted(_) => {
            Status::new(Reason::Expired, "The resourceVersion for the provided list is too old.")
        }
        StoreError::Future(revision) => too_large_revision(0, revision),
        StoreError::StaleTerm => Status::new(Reason::Conflict, "the term of the writer has passed: it leads no more"),
        StoreError::TooLarge(limit) => too_large(limit),
        StoreError::NoSpace => Status::internal("no space left in the store"),
    }
}

/// 500 ServerTimeout, to be retried after a second.
pub fn retry_later() -> Status {
    let text = "The operation could not be completed at this time, please try again.";
    Status { details: retry_after(1), ..Status::new(Reason::ServerTimeout, text) }
}

/// 413 with the limit in bytes.
pub fn too_large(limit: usize) -> Status {
    Status::new(Reason::RequestEntityTooLarge, format!("Request entity too large: limit is {limit}"))
}

/// 504 for a revision this server has not reached in time.
pub fn too_large_revision(requested: u64, current: u64) -> Status {
    let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
    let cause = Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        ..Cause::default()
    };
    let details = Details { causes: vec![cause], retry_after_seconds: Some(1), ..Details::default() };
    Status { details: Some(Box::new(details)), ..Status::new(Reason::Timeout, message) }
}

/// 504 for a request that took too long.
pub fn deadline_exceeded() -> Status {
    Status::new(Reason::Timeout, "Timeout: request did not complete within the allotted timeout")
}

fn retry_after(seconds: i32) -> Option<Box<Details>> {
    Some(Box::new(Details { retry_after_seconds: Some(seconds), ..Details::default() }))
}
