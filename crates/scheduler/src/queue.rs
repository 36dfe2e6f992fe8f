//! Pods that wait: ready for a decision, backing off, or parked until something happens that helps.

use crate::framework::Happening;
use crate::pod::PodInfo;
use crate::profile::{Profiles, Refusers};
use smol_str::SmolStr;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A parked pod is tried again after this long, should the event that helps have been missed.
const PARKED_LIMIT: Duration = Duration::from_secs(300);
/// Up to so many attempts a woken pod may skip its back-off. Without an end to that, thousands of
/// pods that fit nowhere would keep the scheduler busy as long as anything happens.
const EAGER_ATTEMPTS: u32 = 3;

/// Waits after refusals and failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The first; doubles.
    pub(crate) first: Duration,
    /// The longest.
    pub(crate) longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(10) }
    }
}

impl Backoff {
    fn after(self, attempts: u32) -> Duration {
        self.first.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(self.longest)
    }
}

/// Where a pod waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Ready, in this position.
    Active(Position),
    /// Ready at this time, or earlier when nobody else is ready.
    Woken(Instant),
    /// Ready at this time: something went wrong.
    Failed(Instant),
    /// Until something helps against these, at the latest at this time.
    Parked(Refusers, Instant),
    /// Its victims are being told to go; whether something has happened meanwhile that helps.
    Preempting(Refusers, bool),
    /// Until its gates are lifted.
    Gated,
    /// A decision about it is being carried out.
    InFlight,
}

/// Higher priority first, then in order of arrival.
type Position = (Reverse<i32>, u64);

struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    since: u64,
    /// No event may shorten its back-off below this time while others are ready.
    not_before: Instant,
    /// What has been said about it, and when.
    told: Option<(String, Instant)>,
}

/// Pods of one scheduler refused by the same filters: asked together whether a kind of event matters.
type Group = (SmolStr, Refusers);

/// The queue. Times are given, so that tests move them.
#[derive(Default)]
pub(crate) struct Queue {
    backoff: Backoff,
    entries: HashMap<SmolStr, Entry>,
    active: BTreeSet<(Position, SmolStr)>,
    timed: BTreeSet<(Instant, SmolStr)>,
    woken: BTreeSet<(Instant, SmolStr)>,
    parked: HashMap<Group, HashSet<SmolStr>>,
    arrivals: u64,
}

impl Queue {
    /// With these waits.
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, ..Self::default() }
    }

    /// Takes a waiting pod in, or its new state. A change of a refused pod gets a new decision.
    pub(crate) fn add(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let uid = pod.uid.clone();
        if let Some(entry) = self.entries.get_mut(&uid)
            && (matches!(entry.place, Place::InFlight | Place::Preempting(..)) || same_wish(&entry.pod, &pod))
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
        self.insert(uid, Entry { pod, place: target, attempts: 0, since, not_before: now, told: None });
    }

    /// Is a pod not known?
    pub(crate) fn is_new(&self, uid: &str) -> bool {
        !self.entries.contains_key(uid)
    }

    /// Takes a pod out: it is gone, or has a node.
    pub(crate) fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.unlist(uid, &entry);
        }
    }

    /// The next pod to decide; it stays known as being in flight. When nobody is ready, one that has
    /// been woken need not sit out its back-off.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.wake_timed(now);
        let uid = match self.active.pop_first() {
            Some((_, uid)) => uid,
            None => self.woken.first().map(|(_, uid)| uid.clone())?,
        };
        self.put(&uid, Place::InFlight);
        let entry = self.entries.get_mut(&uid)?;
        entry.attempts = entry.attempts.saturating_add(1);
        Some(Arc::clone(&entry.pod))
    }

    /// No node will do for now: parks the pod until something helps.
    pub(crate) fn park(&mut self, uid: &str, by: Refusers, now: Instant) {
        if self.blame(uid, now).is_some() {
            self.put(uid, Place::Parked(by, now + PARKED_LIMIT));
        }
    }

    /// Victims of the pod are being told to go: it is not decided again before they all know.
    pub(crate) fn hold(&mut self, uid: &str, by: Refusers, now: Instant) {
        self.park(uid, by, now);
        self.put(uid, Place::Preempting(by, false));
    }

    /// The pod's victims have been told, or that has failed.
    pub(crate) fn release(&mut self, uid: &str, told: bool, now: Instant) {
        let Some(Place::Preempting(by, helped)) = self.entries.get(uid).map(|e| e.place) else { return };
        match (told, helped) {
            (true, false) => self.put(uid, Place::Parked(by, now + PARKED_LIMIT)),
            (true, true) => self.wake(uid, now),
            (false, _) => self.retry(uid, now),
        }
    }

    /// Is this worth saying about a pod? The same words are not repeated at every event.
    pub(crate) fn is_news(&mut self, uid: &str, message: &str, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(uid) else { return false };
        let stale = |(text, at): &(String, Instant)| text != message || now >= *at + PARKED_LIMIT;
        let news = entry.told.as_ref().is_none_or(stale);
        if news {
            entry.told = Some((message.to_owned(), now));
        }
        news
    }

    /// The decision could not be carried out: tries again after a back-off.
    pub(crate) fn retry(&mut self, uid: &str, now: Instant) {
        if let Some(at) = self.blame(uid, now) {
            self.put(uid, Place::Failed(at));
        }
    }

    /// An attempt has failed: the pod backs off, and queues behind those that are there. Until when.
    fn blame(&mut self, uid: &str, now: Instant) -> Option<Instant> {
        self.arrivals += 1;
        let entry = self.entries.get_mut(uid)?;
        entry.since = self.arrivals;
        entry.not_before = now + self.backoff.after(entry.attempts);
        Some(entry.not_before)
    }

    /// Something happened: pods that it may help are tried again, once their back-off is over.
    pub(crate) fn happened(&mut self, happening: &Happening<'_>, profiles: &Profiles, now: Instant) {
        let mut helped: Vec<SmolStr> = Vec::new();
        for ((scheduler, by), uids) in &self.parked {
            let Some(profile) = profiles.get(scheduler) else { continue };
            if !profile.concerns(*by, happening.kind()) {
                continue;
            }
            let helps = |uid: &&SmolStr| self.entries.get(*uid).is_some_and(|e| profile.helps(*by, &e.pod, happening));
            helped.extend(uids.iter().filter(helps).cloned());
        }
        for uid in helped {
            match self.entries.get_mut(&uid).map(|e| &mut e.place) {
                Some(Place::Preempting(_, helped)) => *helped = true,
                _ => self.wake(&uid, now),
            }
        }
    }

    /// Tries a parked pod again.
    pub(crate) fn wake(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get(uid) else { return };
        if !matches!(entry.place, Place::Parked(..) | Place::Preempting(..)) {
            return;
        }
        let position = (Reverse(entry.pod.priority), entry.since);
        let place = if entry.not_before <= now { Place::Active(position) } else { Place::Woken(entry.not_before) };
        self.put(uid, place);
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

    fn put(&mut self, uid: &str, place: Place) {
        if let Some((uid, mut entry)) = self.entries.remove_entry(uid) {
            self.unlist(&uid, &entry);
            entry.place = place;
            self.insert(uid, entry);
        }
    }

    fn insert(&mut self, uid: SmolStr, entry: Entry) {
        match entry.place {
            Place::Active(position) => _ = self.active.insert((position, uid.clone())),
            Place::Failed(at) | Place::Parked(_, at) => _ = self.timed.insert((at, uid.clone())),
            Place::Woken(at) => {
                self.timed.insert((at, uid.clone()));
                if entry.attempts <= EAGER_ATTEMPTS {
                    self.woken.insert((at, uid.clone()));
                }
            }
            Place::Preempting(..) | Place::Gated | Place::InFlight => {}
        }
        if let Place::Parked(by, _) | Place::Preempting(by, _) = entry.place {
            self.parked.entry((entry.pod.scheduler.clone(), by)).or_default().insert(uid.clone());
        }
        self.entries.insert(uid, entry);
    }

    fn unlist(&mut self, uid: &str, entry: &Entry) {
        let uid = SmolStr::new(uid);
        match entry.place {
            Place::Active(position) => _ = self.active.remove(&(position, uid.clone())),
            Place::Failed(at) | Place::Parked(_, at) => _ = self.timed.remove(&(at, uid.clone())),
            Place::Woken(at) => {
                self.timed.remove(&(at, uid.clone()));
                self.woken.remove(&(at, uid.clone()));
            }
            Place::Preempting(..) | Place::Gated | Place::InFlight => {}
        }
        if let Place::Parked(by, _) | Place::Preempting(by, _) = entry.place {
            let group = (entry.pod.scheduler.clone(), by);
            if let Some(uids) = self.parked.get_mut(&group) {
                uids.remove(&uid);
                if uids.is_empty() {
                    self.parked.remove(&group);
                }
            }
        }
    }
}

/// Do both states of a pod ask for the same? (Our own status writes must not wake it.)
fn same_wish(a: &PodInfo, b: &PodInfo) -> bool {
    let bare = |pod: &PodInfo| PodInfo { complaint: None, nominated: SmolStr::default(), ..pod.clone() };
    bare(a) == bare(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeInfo;
    use crate::pod::requests::Amounts;
    use crate::profile::{Profile, ProfileSettings};
    use crate::testing;
    use serde_json::json;

    fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
        let spec = json!({"priority": priority, "schedulerName": "default-scheduler",
            "containers": [{"resources": {"requests": {"cpu": "1"}}}]});
        testing::pod(&json!({"metadata": {"name": name, "uid": name}, "spec": spec}))
    }
    fn profiles() -> Profiles {
        let usual = ProfileSettings::usual("default-scheduler");
        Profiles::from([(usual.name.clone(), Profile::new(&usual))])
    }
    /// Refused for want of resources.
    fn full(profiles: &Profiles) -> Refusers {
        let filters = &profiles["default-scheduler"].filters;
        let mut by = Refusers::default();
        by.add(filters.iter().position(|f| f.name() == "NodeResourcesFit").expect("the filter"));
        by
    }
    fn node(cpu: i64, label: &str) -> NodeInfo {
        let allocatable = Amounts::from([("cpu".into(), cpu), ("pods".into(), 10)]);
        NodeInfo { name: "n".into(), labels: vec![("l".into(), label.into())], allocatable, ..NodeInfo::default() }
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
    async fn a_parked_pod_wakes_by_a_fitting_event_only() {
        let (mut q, now, profiles) = (Queue::default(), Instant::now(), profiles());
        q.add(pod("a", 0), now);
        assert!(pop(&mut q, now).is_some());
        q.park("a", full(&profiles), now);
        let (small, relabelled, large) = (node(500, "x"), node(500, "y"), node(2000, "y"));
        q.happened(&Happening::NodeChanged(&small, &relabelled), &profiles, now);
        q.happened(&Happening::NodeAdded(&small), &profiles, now);
        q.happened(&Happening::PodPlaced(&pod("b", 0)), &profiles, now);
        assert_eq!(pop(&mut q, now + 5 * SECOND), None);
        q.happened(&Happening::NodeChanged(&relabelled, &large), &profiles, now + 5 * SECOND);
        assert_eq!(pop(&mut q, now + 5 * SECOND).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_woken_pod_backs_off_only_behind_others() {
        let (mut q, now, profiles) = (Queue::default(), Instant::now(), profiles());
        q.add(pod("a", 9), now);
        pop(&mut q, now);
        q.park("a", full(&profiles), now);
        q.add(pod("b", 0), now);
        q.happened(&Happening::PodGone(&pod("c", 0)), &profiles, now);
        assert_eq!(q.next_wake(), Some(now + SECOND));
        assert_eq!(pop(&mut q, now).as_deref(), Some("b"));
        assert_eq!(pop(&mut q, now).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn endless_attempts_sit_out_their_backoff_and_say_nothing_new() {
        let (mut q, now, profiles) = (Queue::default(), Instant::now(), profiles());
        q.add(pod("a", 0), now);
        for attempt in 1..=EAGER_ATTEMPTS + 1 {
            assert_eq!(pop(&mut q, now).as_deref(), Some("a"), "attempt {attempt}");
            assert_eq!(q.is_news("a", "full", now), attempt == 1);
            q.park("a", full(&profiles), now);
            q.happened(&Happening::PodGone(&pod("c", 0)), &profiles, now);
        }
        assert_eq!(pop(&mut q, now), None);
        assert_eq!(pop(&mut q, now + 10 * SECOND).as_deref(), Some("a"));
        assert!(q.is_news("a", "fuller", now) && q.is_news("a", "fuller", now + PARKED_LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_whose_victims_go_is_not_decided_before_all_know() {
        let (mut q, now, profiles) = (Queue::default(), Instant::now(), profiles());
        q.add(pod("a", 0), now);
        pop(&mut q, now);
        q.hold("a", full(&profiles), now);
        q.happened(&Happening::PodGone(&pod("c", 0)), &profiles, now + SECOND);
        assert_eq!(pop(&mut q, now + SECOND), None);
        q.release("a", true, now + SECOND);
        assert_eq!(pop(&mut q, now + SECOND).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn own_status_writes_do_not_wake_but_a_new_wish_does() {
        let (mut q, now, profiles) = (Queue::default(), Instant::now(), profiles());
        q.add(pod("a", 0), now);
        pop(&mut q, now);
        q.park("a", full(&profiles), now);
        q.add(Arc::new(PodInfo { complaint: Some("0/1".into()), ..PodInfo::clone(&pod("a", 0)) }), now);
        assert_eq!(pop(&mut q, now), None);
        q.add(Arc::new(PodInfo { gated: true, ..PodInfo::clone(&pod("a", 0)) }), now);
        assert_eq!(pop(&mut q, now), None);
        q.add(pod("a", 0), now);
        assert_eq!(pop(&mut q, now).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn retries_back_off_and_removal_is_final() {
        let (mut q, now) = (Queue::default(), Instant::now());
        q.add(pod("a", 0), now);
        pop(&mut q, now);
        q.retry("a", now);
        assert_eq!(pop(&mut q, now), None);
        assert_eq!(pop(&mut q, now + SECOND).as_deref(), Some("a"));
        q.retry("a", now + SECOND);
        assert_eq!(q.next_wake(), Some(now + 3 * SECOND));
        q.remove("a");
        assert_eq!((q.next_wake(), pop(&mut q, now + 60 * SECOND)), (None, None));
    }
}
