//! The frame of the policies' tables: everything closed, until pods have doors.
//!
//! A packet is judged by its connection: who began it (`ct original ip saddr`) and who answers it, behind any
//! Service (`ct reply ip saddr`, `ct reply proto-src`). So both directions of a connection have one verdict,
//! replies need no rule of their own, and a change holds for connections that are there already. One map per
//! direction leads from the pod's address to its verdict; an address that is in none is closed.
//!
//! A connection that has passed bears the number of the rules it was judged by, and is not judged again until
//! they change: however many rules there are, only its first packet meets them.

use crate::cni::LINKS;
use ipnet::Ipv4Net;
use std::fmt::Write;

/// The table, of family `ip`, and of family `bridge`.
pub(super) const TABLE: &str = "kybern-policy";
/// Number of the frame's form: tables of another form are not built upon.
const FORM: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    /// The map of its doors.
    pub(super) fn map(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
    /// The other side of a connection.
    pub(super) fn peer(self) -> &'static str {
        match self {
            Self::Ingress => BEGAN,
            Self::Egress => ANSWERS,
        }
    }
    /// The selected pod's side.
    fn own(self) -> &'static str {
        match self {
            Self::Ingress => ANSWERS,
            Self::Egress => BEGAN,
        }
    }
}

const BEGAN: &str = "ct original ip saddr";
const ANSWERS: &str = "ct reply ip saddr";

/// A chain that only a frame of this form for this pod network has.
pub(super) fn stamp(own: Ipv4Net) -> String {
    format!("form-{FORM}-{own}").replace(['.', '/'], "-")
}

/// The frame for the node's pod network, with everything closed; replaces what is there. `filtered`: does the
/// kernel show the rules what travels on the pods' bridge?
pub(super) fn closed(own: Ipv4Net, filtered: bool) -> String {
    let mut out = String::new();
    for family in ["ip", "bridge"] {
        let _ = writeln!(out, "table {family} {TABLE}\ndelete table {family} {TABLE}");
    }
    out + &judge(own) + &bridge(filtered)
}

fn judge(own: Ipv4Net) -> String {
    let mut out = format!(
        "table ip {TABLE} {{\n\
         \x20 chain {stamp} {{ }}\n\
         \x20 map ingress {{ type ipv4_addr : verdict; }}\n\
         \x20 map egress {{ type ipv4_addr : verdict; }}\n\
         \x20 set judged {{ type mark; }}\n\
         \x20 chain passed {{ }}\n",
        stamp = stamp(own)
    );
    for (direction, priority) in [(Direction::Egress, -10), (Direction::Ingress, -9)] {
        let (map, side) = (direction.map(), direction.own());
        // What belongs to no connection has no peer that could be judged.
        let _ = write!(
            out,
            "  chain {map}-door {{ type filter hook forward priority {priority};\n\
             \x20   ct state invalid,untracked ip saddr {own} drop\n\
             \x20   ct state invalid,untracked ip daddr {own} drop\n\
             \x20   ct state invalid,untracked accept\n\
             \x20   ct mark @judged accept\n\
             \x20   {side} != {own} accept\n\
             \x20   {side} vmap @{map}\n\
             \x20   drop\n  }}\n"
        );
    }
    let _ = write!(
        out,
        "  chain behind {{ type filter hook forward priority -8;\n\
         \x20   ct state invalid,untracked accept\n\
         \x20   ct mark @judged accept\n\
         \x20   {BEGAN} {own} goto passed\n\
         \x20   {ANSWERS} {own} goto passed\n  }}\n"
    );
    out + "}\n"
}

/// A pod sends from its own address only. Pods of one node reach each other only as IPv4, where the rules see
/// it; and where the kernel does not show it to them, not at all. Other bridges of the node are left alone.
fn bridge(filtered: bool) -> String {
    let unseen = match filtered {
        true => String::new(),
        false => format!(
            "  chain forward {{ type filter hook forward priority 0; iifname \"{LINKS}*\" ether type ip drop; }}\n"
        ),
    };
    format!(
        "table bridge {TABLE} {{\n\
         \x20 set sources {{ type ifname . ipv4_addr; }}\n\
         \x20 chain prerouting {{ type filter hook prerouting priority -300;\n\
         \x20   iifname != \"{LINKS}*\" accept\n\
         \x20   ether type ip iifname . ip saddr != @sources drop\n\
         \x20   ether type arp iifname . arp saddr ip != @sources drop\n\
         \x20   ether type != {{ ip, arp }} drop\n  }}\n\
         {unseen}}}\n"
    )
}
