//! Priority levels: how many requests of each may run at once (API reference,
//! PriorityLevelConfiguration v1).

use k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration;

/// What a PriorityLevelConfiguration says, in seats of this server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Level {
    pub(super) name: String,
    pub(super) uid: String,
    /// Its requests are neither counted nor made to wait.
    pub(super) exempt: bool,
    /// Seats that are its own.
    pub(super) nominal: usize,
    /// Of those, what it keeps even while it does not need them.
    pub(super) reserved: usize,
    /// What it may borrow from others; None: as much as there is.
    pub(super) borrows: Option<usize>,
    /// Where requests wait; None: what finds no seat is refused.
    pub(super) queuing: Option<Queuing>,
}

/// The queues of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Queuing {
    pub(super) queues: usize,
    /// Queues that one flow may use.
    pub(super) hand: usize,
    /// Requests that one queue may hold.
    pub(super) length: usize,
}

/// The shares of a level, before they are seats.
struct Shares {
    level: Level,
    shares: usize,
    lendable: usize,
    borrowing: Option<usize>,
}

impl Shares {
    fn of(configuration: PriorityLevelConfiguration) -> Option<Self> {
        let spec = configuration.spec?;
        let number = |n: Option<i32>, default: usize| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(default);
        let mut level = Level {
            name: configuration.metadata.name.unwrap_or_default(),
            uid: configuration.metadata.uid.unwrap_or_default(),
            exempt: spec.type_ == "Exempt",
            ..Level::default()
        };
        if level.exempt {
            let exempt = spec.exempt.unwrap_or_default();
            let (shares, lendable) = (number(exempt.nominal_concurrency_shares, 0), number(exempt.lendable_percent, 0));
            return Some(Self { level, shares, lendable, borrowing: None });
        }
        let limited = spec.limited.unwrap_or_default();
        level.queuing = limited.limit_response.filter(|r| r.type_ == "Queue").map(|response| {
            let queuing = response.queuing.unwrap_or_default();
            let queues = number(queuing.queues, 64).max(1);
            Queuing {
                queues,
                hand: number(queuing.hand_size, 8).clamp(1, queues),
                length: number(queuing.queue_length_limit, 50),
            }
        });
        Some(Self {
            level,
            shares: number(limited.nominal_concurrency_shares, 30),
            lendable: number(limited.lendable_percent, 0),
            borrowing: limited.borrowing_limit_percent.and_then(|p| usize::try_from(p).ok()),
        })
    }
}

/// The levels with `capacity` seats shared out among them.
pub(super) fn levels(configurations: Vec<PriorityLevelConfiguration>, capacity: usize) -> Vec<Level> {
    let shares: Vec<Shares> = configurations.into_iter().filter_map(Shares::of).collect();
    let total: usize = shares.iter().map(|s| s.shares).sum::<usize>().max(1);
    let seats = |s: Shares| {
        let nominal = capacity.saturating_mul(s.shares).div_ceil(total);
        let percent = |p: usize| (nominal.saturating_mul(p) + 50) / 100;
        let (lent, borrows) = (percent(s.lendable.min(100)), s.borrowing.map(percent));
        Level { nominal, reserved: nominal.saturating_sub(lent), borrows, ..s.level }
    };
    shares.into_iter().map(seats).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn seats_are_shared_out_by_shares() {
        let all = json!([
            {"metadata": {"name": "exempt"}, "spec": {"type": "Exempt"}},
            {"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 30,
                "lendablePercent": 33, "limitResponse": {"type": "Queue", "queuing": {"queues": 4, "handSize": 2}}}}},
            {"metadata": {"name": "b"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 5,
                "borrowingLimitPercent": 50, "limitResponse": {"type": "Reject"}}}},
        ]);
        let levels = levels(from_value(all).expect("levels"), 100);
        let seats: Vec<_> = levels.iter().map(|l| (&*l.name, l.exempt, l.nominal, l.reserved, l.borrows)).collect();
        assert_eq!(seats, [("exempt", true, 0, 0, None), ("a", false, 86, 58, None), ("b", false, 15, 15, Some(8))]);
        assert_eq!(levels[1].queuing, Some(Queuing { queues: 4, hand: 2, length: 50 }));
        assert_eq!(levels[2].queuing, None);
    }
}
