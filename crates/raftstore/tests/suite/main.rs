//! The store's guarantees: on every kind of store (`guarantees`), on real members under restarts, lost
//! leaders and changes of membership (`members`), and how fast they are held (`figures`, on demand).

mod common;
mod figures;
mod guarantees;
mod members;
