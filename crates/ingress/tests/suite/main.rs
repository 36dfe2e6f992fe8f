//! The proxy from outside: its table as data, its sockets, and what it does with what the cluster says.

mod follow;
mod proxy;
mod routes;
mod support;
