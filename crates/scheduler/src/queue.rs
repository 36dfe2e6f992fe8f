//! Pods that wait: ready for a decision, backing off, or parked until something happens that helps.

use crate::framework::Events;
use crate::pod::PodInfo;
use smol_str::SmolStr;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// First wait after a refusal; doubles.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// Longest wait after refusals.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A parked pod is tried again after this long, should the event that helps have been missed.
const PARKED_LIMIT: Duration = Duration::from_secs(300);

/// Where a pod waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Ready, in this position.
    Active(Position),
    /// Ready at this time.
    Backoff(Instant),
    /// Until one of these events, at the latest at this time.
    Parked(Events, Instant),
    /// Until its gates are lifted.
    Gated,
    /// A decision about it is being carried out.
    InFlight,
}

/// Higher priority first, then in order of arrival.
type Position = (Reverse<i32>, u64);

struct Entry {
    pod: PodInfo,
    place: Place,
    attempts: u32,
    since: u64,
    /// No event may shorten its back-off below this time.
    not_before: Instant,
}

/// The queue. Times are given, so that tests move them.
#[derive(Default)]
pub(crate) struct Queue {
    entries: HashMap<SmolStr, Entry>,
    active: BTreeSet<(Position, SmolStr)>,
    timed: BTreeSet<(Instant, SmolStr)>,
    arrivals: u64,
}

impl Queue {
    /// Takes a waiting pod in, or its new state. A change of a refused pod gets a new decision.
    pub(crate) fn add(&mut self, pod: PodInfo, now: Instant) {
        let uid = pod.uid.clone();
        if let Some(entry) = self.entries.get_mut(&uid)
            && (entry.place == Place::InFlight || same_wish(&entry.pod, &pod))
        {
            // Nothing that matters has changed: it waits where it waits.
            entry.pod = pod;
            return;
        }
        let since = self.entries.get(&uid).map_or_else(
            || {
                self.arrivals += 1;
                self.arrivals
            },
            |e| e.since,
        );
        self.remove(&uid);
        let target = if pod.gated { Place::Gated } else { Place::Active((Reverse(pod.priority), since)) };
        self.insert(uid, Entry { pod, place: target, attempts: 0, since, not_before: now });
    }

    /// Takes a pod out: it is gone, or has a node.
    pub(crate) fn remove(&mut self, uid: &SmolStr) {
        if let Some(entry) = self.entries.remove(uid) {
            self.unlist(uid, entry.place);
        }
    }

    /// The next pod to decide; it stays known as being in flight.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<PodInfo> {
        self.wake_timed(now);
        let (_, uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.place = Place::InFlight;
        entry.attempts = entry.attempts.saturating_add(1);
        Some(entry.pod.clone())
    }

    /// No node will do for now: parks the pod until one of `events`.
    pub(crate) fn park(&mut self, uid: &SmolStr, events: Events, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        entry.not_before = now + backoff(entry.attempts);
        self.put(uid, Place::Parked(events, now + PARKED_LIMIT));
    }

    /// The decision could not be carried out: tries again after a back-off.
    pub(crate) fn retry(&mut self, uid: &SmolStr, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let at = now + backoff(entry.attempts);
        entry.not_before = at;
        self.put(uid, Place::Backoff(at));
    }

    /// Something happened: pods that it may help are tried again, once their back-off is over.
    pub(crate) fn happened(&mut self, events: Events, now: Instant) {
        if events.is_empty() {
            return;
        }
        let helped: Vec<SmolStr> = self
            .entries
            .iter()
            .filter(|(_, e)| matches!(e.place, Place::Parked(wanted, _) if wanted.meets(events)))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in helped {
            let Some(entry) = self.entries.get(&uid) else { continue };
            let position = (Reverse(entry.pod.priority), entry.since);
            let place =
                if entry.not_before <= now { Place::Active(position) } else { Place::Backoff(entry.not_before) };
            self.put(&uid, place);
        }
    }

    /// When a pod becomes ready by time alone.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }

    fn wake_timed(&mut self, now: Instant) {
        while let Some((at, uid)) = self.timed.first().cloned() {
            if at > now {
                return;
            }
            match self.entries.get(&uid).map(|e| (Reverse(e.pod.priority), e.since)) {
                Some(position) => self.put(&uid, Place::Active(position)),
                None => _ = self.timed.pop_first(),
            }
        }
    }

    fn put(&mut self, uid: &SmolStr, place: Place) {
        if let Some(mut entry) = self.entries.remove(uid) {
            self.unlist(uid, entry.place);
            entry.place = place;
            self.insert(uid.clone(), entry);
        }
    }

    fn insert(&mut self, uid: SmolStr, entry: Entry) {
        match entry.place {
            Place::Active(position) => _ = self.active.insert((position, uid.clone())),
            Place::Backoff(at) | Place::Parked(_, at) => _ = self.timed.insert((at, uid.clone())),
            Place::Gated | Place::InFlight => {}
        }
        self.entries.insert(uid, entry);
    }

    fn unlist(&mut self, uid: &SmolStr, place: Place) {
        match place {
            Place::Active(position) => _ = self.active.remove(&(position, uid.clone())),
            Place::Backoff(at) | Place::Parked(_, at) => _ = self.timed.remove(&(at, uid.clone())),
            Place::Gated | Place::InFlight => {}
        }
    }
}

/// Do both states of a pod ask for the same? (Our own status writes must not wake it.)
fn same_wish(a: &PodInfo, b: &PodInfo) -> bool {
    PodInfo { complaint: None, ..a.clone() } == PodInfo { complaint: None, ..b.clone() }
}

fn backoff(attempts: u32) -> Duration {
    MIN_BACKOFF.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32) -> PodInfo {
        let json = format!(r#"{{"metadata":{{"name":"{name}","uid":"{name}"}},"spec":{{"priority":{priority}}}}}"#);
        PodInfo::read(&kybern_client::wire::object(json.as_bytes()).expect("object")).expect("pod")
    }
    fn pop(q: &mut Queue, now: Instant) -> Option<String> {
        q.pop(now).map(|p| p.uid.to_string())
    }
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn priority_then_arrival() {
        let (mut q, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0)] {
            q.add(pod(name, priority), now);
        }
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut q, now)).collect();
        assert_eq!(order, ["b", "a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_pod_wakes_by_a_fitting_event_after_its_backoff() {
        let (mut q, now) = (Queue::default(), Instant::now());
        q.add(pod("a", 0), now);
        assert!(pop(&mut q, now).is_some());
        q.park(&"a".into(), Events::POD_GONE, now);
        q.happened(Events::NODE_LABELS, now + 5 * SECOND);
        assert_eq!(pop(&mut q, now + 5 * SECOND), None);
        q.happened(Events::POD_GONE, now + SECOND / 2);
        assert_eq!(pop(&mut q, now + SECOND / 2), None, "still backing off");
        assert_eq!(q.next_wake(), Some(now + SECOND));
        assert_eq!(pop(&mut q, now + SECOND).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn own_status_writes_do_not_wake_but_a_new_wish_does() {
        let (mut q, now) = (Queue::default(), Instant::now());
        q.add(pod("a", 0), now);
        pop(&mut q, now);
        q.park(&"a".into(), Events::POD_GONE, now);
        q.add(PodInfo { complaint: Some("0/1".into()), ..pod("a", 0) }, now);
        assert_eq!(pop(&mut q, now), None);
        q.add(PodInfo { gated: true, ..pod("a", 0) }, now);
        assert_eq!(pop(&mut q, now), None);
        q.add(pod("a", 0), now);
        assert_eq!(pop(&mut q, now).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn retries_back_off_and_removal_is_final() {
        let (mut q, now) = (Queue::default(), Instant::now());
        q.add(pod("a", 0), now);
        pop(&mut q, now);
        q.retry(&"a".into(), now);
        assert_eq!(pop(&mut q, now), None);
        assert_eq!(pop(&mut q, now + SECOND).as_deref(), Some("a"));
        q.retry(&"a".into(), now + SECOND);
        assert_eq!(q.next_wake(), Some(now + 3 * SECOND));
        q.remove(&"a".into());
        assert_eq!((q.next_wake(), pop(&mut q, now + 60 * SECOND)), (None, None));
    }
}
