//! The API server on the memory store: through the in-process door and over real sockets.

mod admission;
mod audit;
mod barriers;
mod cases;
mod catalogue;
mod discovery;
mod evictions;
mod fairness;
mod fuzz;
mod hostile;
mod limits;
mod oidc;
mod past_faults;
mod protobuf;
mod quotas;
mod reads;
mod reviews;
mod sockets;
mod statuses;
mod three;
mod watches;
mod writes;
