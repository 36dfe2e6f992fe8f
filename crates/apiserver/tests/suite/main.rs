//! The API server on the memory store: through the in-process door and over real sockets.

mod admission;
mod barriers;
mod cases;
mod hostile;
mod limits;
mod protobuf;
mod reads;
mod sockets;
mod statuses;
mod watches;
mod writes;
