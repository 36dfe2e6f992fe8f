//! Node pressure: which of the machine's resources run short, and which pod has to go for it. Pure.

use crate::cgroup::Qos;
use jiff::{SignedDuration, Timestamp};
use kybern_api::meta::quantity::Quantity;
use std::collections::BTreeMap;

/// A resource that may run short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory that processes could still get.
    Memory,
    /// Space on the data directory's file system.
    Disk,
    /// Inodes there.
    Inodes,
    /// Space for images (the same file system).
    Images,
    /// Process ids.
    Pids,
}

/// What the node's condition is called for a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// MemoryPressure.
    Memory,
    /// DiskPressure.
    Disk,
    /// PIDPressure.
    Pids,
}

impl Pressure {
    /// The condition's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pids => "PIDPressure",
        }
    }
}

const SIGNALS: [(Signal, &str); 5] = [
    (Signal::Memory, "memory.available"),
    (Signal::Disk, "nodefs.available"),
    (Signal::Inodes, "nodefs.inodesFree"),
    (Signal::Images, "imagefs.available"),
    (Signal::Pids, "pid.available"),
];

impl Signal {
    /// The condition it belongs to.
    pub fn pressure(self) -> Pressure {
        match self {
            Self::Memory => Pressure::Memory,
            Self::Disk | Self::Inodes | Self::Images => Pressure::Disk,
            Self::Pids => Pressure::Pids,
        }
    }
    /// The resource as messages name it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk | Self::Images => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }
}

/// How little is too little.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Least {
    Amount(Quantity),
    Percent(f64),
}

/// Eviction thresholds.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds(BTreeMap<Signal, Least>);

impl Default for Thresholds {
    /// Kubernetes' own.
    fn default() -> Self {
        Self(BTreeMap::from([
            (Signal::Memory, Least::Amount(Quantity::from_bytes(100 << 20))),
            (Signal::Disk, Least::Percent(10.0)),
            (Signal::Inodes, Least::Percent(5.0)),
            (Signal::Images, Least::Percent(15.0)),
        ]))
    }
}

impl Thresholds {
    /// Reads `memory.available<100Mi` and the like.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn parse(written: &[String]) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for text in written {
            let (name, value) = text.split_once('<').ok_or_else(|| format!("{text}: must be signal<quantity"))?;
            let known = SIGNALS.iter().find(|(_, n)| *n == name);
            let (signal, _) = known.ok_or_else(|| format!("{text}: {name} is no signal"))?;
            let least = match value.strip_suffix('%') {
                Some(p) => Least::Percent(p.parse().map_err(|e| format!("{text}: {e}"))?),
                None => Least::Amount(value.parse().map_err(|e| format!("{text}: {e}"))?),
            };
            all.insert(*signal, least);
        }
        Ok(Self(all))
    }

    /// The memory that pods cannot have because they would be evicted for it.
    pub fn memory_reserve(&self) -> i64 {
        match self.0.get(&Signal::Memory) {
            Some(Least::Amount(q)) => q.value(),
            _ => 0,
        }
    }

    fn least(&self, signal: Signal, capacity: i64) -> Option<Quantity> {
        Some(match self.0.get(&signal)? {
            Least::Amount(q) => *q,
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a share of a file system's size fits, and need not be exact"
            )]
            Least::Percent(p) => Quantity::from_bytes((capacity as f64 * p / 100.0) as i64),
        })
    }
}

/// How a resource stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// What is left.
    pub available: i64,
    /// Of how much.
    pub capacity: i64,
}

/// A resource that has fallen below its threshold.
#[derive(Debug, Clone, Copy)]
pub struct Shortage {
    /// Which.
    pub signal: Signal,
    /// The threshold.
    pub least: Quantity,
    /// What is left.
    pub available: Quantity,
}

/// What has run short, memory first, as pods are evicted for it first.
pub fn shortages(levels: &BTreeMap<Signal, Level>, thresholds: &Thresholds) -> Vec<Shortage> {
    let below = |(signal, level): (&Signal, &Level)| {
        let least = thresholds.least(*signal, level.capacity)?;
        let available = Quantity::from_bytes(level.available);
        (available < least).then_some(Shortage { signal: *signal, least, available })
    };
    levels.iter().filter_map(below).collect()
}

/// Conditions hold on for so long after the shortage, so that pods do not come back into it.
const HOLD: SignedDuration = SignedDuration::from_secs(300);

/// When each pressure was seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<Pressure, Timestamp>);

impl Seen {
    /// Notes what runs short now.
    pub fn note(&mut self, shortages: &[Shortage], now: Timestamp) {
        self.0.extend(shortages.iter().map(|s| (s.signal.pressure(), now)));
    }
    /// The pressures that hold now.
    pub fn holding(&self, now: Timestamp) -> Vec<Pressure> {
        self.0.iter().filter(|(_, at)| now.duration_since(**at) < HOLD).map(|(p, _)| *p).collect()
    }
}

/// A pod that could go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its uid.
    pub uid: String,
    /// Its priority.
    pub priority: i32,
    /// Critical and static pods stay.
    pub critical: bool,
    /// What its containers use of the short resource and what they requested: name, use, request.
    pub containers: Vec<(String, i64, i64)>,
}

impl Candidate {
    fn usage(&self) -> i64 {
        self.containers.iter().map(|(_, usage, _)| usage).sum()
    }
    fn request(&self) -> i64 {
        self.containers.iter().map(|(.., request)| request).sum()
    }
}

/// The pod to evict: one that uses more than it requested before one that does not, a lower priority
/// before a higher, and among equals the one furthest over its request.
pub fn victim(candidates: &[Candidate]) -> Option<&Candidate> {
    let rank = |c: &&Candidate| {
        let over = c.usage() > c.request();
        (std::cmp::Reverse(over), c.priority, std::cmp::Reverse(c.usage() - c.request()))
    };
    candidates.iter().filter(|c| !c.critical).min_by_key(rank)
}

/// Kubernetes' message for an evicted pod.
pub fn message(shortage: &Shortage, victim: &Candidate) -> String {
    let resource = shortage.signal.resource();
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        shortage.least,
        kibi(shortage.available)
    );
    for (name, usage, request) in victim.containers.iter().filter(|(_, usage, request)| usage > request) {
        text.push_str(&format!(
            "Container {name} was using {}, request is {}, has larger consumption of {resource}. ",
            kibi(Quantity::from_bytes(*usage)),
            Quantity::from_bytes(*request)
        ));
    }
    text
}

/// Bytes in Ki, which is what people read.
fn kibi(bytes: Quantity) -> String {
    format!("{}Ki", bytes.value() / 1024)
}

/// May a pod come onto a node that is short of memory or disk? Only memory lets some in.
pub fn admits(pressures: &[Pressure], qos: Qos, critical: bool, tolerates_memory: bool) -> bool {
    critical
        || pressures.is_empty()
        || (pressures == [Pressure::Memory] && (qos != Qos::BestEffort || tolerates_memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(uid: &str, priority: i32, usage: i64, request: i64) -> Candidate {
        Candidate { uid: uid.into(), priority, critical: false, containers: vec![("c".into(), usage, request)] }
    }

    #[test]
    fn thresholds_are_amounts_or_shares() {
        let thresholds = Thresholds::parse(&["memory.available<100Mi".into(), "nodefs.available<10%".into()]).unwrap();
        let level = |available, capacity| Level { available, capacity };
        let levels = BTreeMap::from([(Signal::Memory, level(99 << 20, 1 << 30)), (Signal::Disk, level(101, 1000))]);
        let short = shortages(&levels, &thresholds);
        assert_eq!((short.len(), short[0].signal), (1, Signal::Memory));
        let levels = BTreeMap::from([(Signal::Memory, level(100 << 20, 1 << 30)), (Signal::Disk, level(99, 1000))]);
        assert_eq!(shortages(&levels, &thresholds)[0].signal.pressure(), Pressure::Disk);
        for bad in ["memory.available", "memory.free<1", "memory.available<x", "nodefs.available<y%"] {
            assert!(Thresholds::parse(&[bad.into()]).unwrap_err().starts_with(bad), "{bad}");
        }
    }

    #[test]
    fn who_uses_more_than_requested_goes_first() {
        let within = candidate("within", -5, 10, 20);
        let over = candidate("over", 0, 30, 20);
        let further = candidate("further", 0, 90, 20);
        let important = candidate("important", 100, 900, 0);
        let critical = Candidate { critical: true, ..candidate("critical", -9, 999, 0) };
        let order = |all: &[&Candidate]| {
            let all: Vec<Candidate> = all.iter().map(|c| (*c).clone()).collect();
            victim(&all).map(|v| v.uid.clone())
        };
        assert_eq!(order(&[&within, &over, &further, &important, &critical]).as_deref(), Some("further"));
        assert_eq!(
            order(&[&within, &important]).as_deref(),
            Some("important"),
            "over its request goes before priority"
        );
        assert_eq!(order(&[&critical]), None);
    }

    #[test]
    fn the_message_is_kubernetes_own() {
        let least = Quantity::from_bytes(100 << 20);
        let shortage = Shortage { signal: Signal::Memory, least, available: Quantity::from_bytes(50 << 20) };
        assert_eq!(
            message(&shortage, &candidate("a", 0, 2048, 0)),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51200Ki. Container c was using \
             2Ki, request is 0, has larger consumption of memory. "
        );
    }

    #[test]
    fn a_pressure_holds_on_after_its_shortage() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut seen = Seen::default();
        let least = Quantity::from_bytes(1);
        seen.note(&[Shortage { signal: Signal::Disk, least, available: Quantity::ZERO }], at(0));
        assert_eq!(seen.holding(at(299)), [Pressure::Disk]);
        assert!(seen.holding(at(300)).is_empty());
    }

    #[test]
    fn memory_pressure_lets_some_in() {
        assert!(admits(&[], Qos::BestEffort, false, false));
        assert!(admits(&[Pressure::Memory], Qos::Burstable, false, false));
        assert!(!admits(&[Pressure::Memory], Qos::BestEffort, false, false));
        assert!(admits(&[Pressure::Memory], Qos::BestEffort, false, true));
        assert!(!admits(&[Pressure::Disk], Qos::Guaranteed, false, false));
        assert!(admits(&[Pressure::Disk, Pressure::Memory], Qos::BestEffort, true, false));
    }
}
