//! Kubernetes knowledge: kinds as data, the codec, metadata rules, statuses.
//!
//! No tokio, no IO, no clock: what needs one gets it through [`seam`]. Imports nothing of ours.
//! Entry points: [`kinds::table`] (every built-in kind), [`codec`] (decode = parse + prune + default;
//! encode), [`object::Object`] (bytes plus a small parsed head), [`error::Status`].
//! [`kinds::find`] answers which row a path names; [`meta`] holds selectors, names, quantities and times.
//! Invariants: a parsed object is never kept; a kind is declared once, as one [`kind::KindDef`].

pub mod attributes;
pub mod certificates;
pub mod codec;
pub mod dns;
pub mod endpoints;
pub mod error;
pub mod indexes;
pub mod ingress;
pub mod kind;
pub mod kinds;
pub mod meta;
pub mod object;
pub mod placement;
pub mod quota;
pub mod schedule;
pub mod schema;
pub mod seam;
pub mod signals;
pub mod tree;
pub mod validate;
