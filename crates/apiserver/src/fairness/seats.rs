//! The seats of this server and who waits for one: shuffle-sharded fair queues in each level, and levels
//! that lend each other what they do not need.
//!
//! A level's reserved seats are always free for it; the rest is taken by whoever comes. When a seat is
//! given back, levels below their own share come first, the emptiest first.

use super::level::{Level, Queuing};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A request's right to run; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    level: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.free(&self.level);
    }
}

/// What a request gets.
#[derive(Debug)]
pub(super) enum Answer {
    /// It may run.
    Run(Seat),
    /// It waits; whoever stops waiting just drops the receiver.
    Wait(oneshot::Receiver<Seat>),
    /// There is no room even for waiting; why, as Kubernetes' metrics call it.
    Refuse(&'static str),
}

/// All seats.
#[derive(Debug)]
pub(super) struct Seats {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    levels: HashMap<String, Held>,
}

/// A level and its requests.
#[derive(Debug, Default)]
struct Held {
    level: Level,
    taken: usize,
    waiting: usize,
    queues: Vec<Queue>,
    /// Virtual time: what the queue served last had been given.
    now: u64,
}

#[derive(Debug, Default)]
struct Queue {
    requests: VecDeque<oneshot::Sender<Seat>>,
    /// Requests served, in virtual time: the queue that is furthest behind comes next.
    given: u64,
}

impl Held {
    fn set(&mut self, level: Level) {
        let queues = level.queuing.map_or(1, |q| q.queues);
        if self.queues.len() != queues {
            let waiting: Vec<_> = self.queues.drain(..).flat_map(|q| q.requests).collect();
            self.queues.resize_with(queues, Queue::default);
            for (i, request) in waiting.into_iter().enumerate() {
                self.queues[i % queues].requests.push_back(request);
            }
            self.now = 0;
        }
        self.level = level;
    }
    /// Seats kept free for it.
    fn kept(&self) -> usize {
        self.level.reserved.saturating_sub(self.taken)
    }
    fn enqueue(&mut self, queuing: Queuing, flow: u64) -> Option<oneshot::Receiver<Seat>> {
        let hand = deal(flow, queuing.queues, queuing.hand);
        let shortest = hand.into_iter().min_by_key(|&q| self.queues[q].requests.len())?;
        let queue = &mut self.queues[shortest];
        queue.requests.retain(|r| !r.is_closed());
        if queue.requests.len() >= queuing.length {
            return None;
        }
        if queue.requests.is_empty() {
            queue.given = queue.given.max(self.now);
        }
        let (sender, receiver) = oneshot::channel();
        queue.requests.push_back(sender);
        self.waiting += 1;
        Some(receiver)
    }
    /// The request whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Seat>> {
        let queue = self.queues.iter_mut().filter(|q| !q.requests.is_empty()).min_by_key(|q| q.given)?;
        self.now = queue.given;
        queue.given += 1;
        queue.requests.pop_front()
    }
}

impl State {
    /// May the level take one more?
    fn may(&self, held: &Held, capacity: usize) -> bool {
        if held.taken < held.level.reserved {
            return true;
        }
        let most = held.level.borrows.map_or(capacity, |b| held.level.nominal + b);
        let kept: usize = self.levels.values().filter(|h| h.level.name != held.level.name).map(Held::kept).sum();
        held.taken < most && self.taken + kept < capacity
    }
    fn take(&mut self, level: &str) {
        self.taken += 1;
        if let Some(held) = self.levels.get_mut(level) {
            held.taken += 1;
        }
    }
    /// The next request that may run now, with its level.
    fn next(&mut self, capacity: usize) -> Option<(String, oneshot::Sender<Seat>)> {
        loop {
            let ready = self.levels.values().filter(|h| h.waiting > 0 && self.may(h, capacity));
            let rank = |h: &&Held| (h.taken >= h.level.nominal, h.taken * 1000 / h.level.nominal.max(1));
            let level = ready.min_by_key(rank)?.level.name.clone();
            let held = self.levels.get_mut(&level)?;
            let request = held.next();
            held.waiting = held.queues.iter().map(|q| q.requests.len()).sum();
            if let Some(request) = request.filter(|r| !r.is_closed()) {
                self.take(&level);
                return Some((level, request));
            }
        }
    }
}

impl Seats {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, state: Mutex::default() })
    }

    /// Brings the levels up to date. Requests of a level that is gone run and wait on.
    pub(super) fn set(&self, levels: &[Level]) {
        let mut state = self.state.lock();
        for held in state.levels.values_mut() {
            let gone = Level { name: held.level.name.clone(), queuing: held.level.queuing, ..Level::default() };
            held.set(levels.iter().find(|l| l.name == held.level.name).cloned().unwrap_or(gone));
        }
        for level in levels {
            state.levels.entry(level.name.clone()).or_default().set(level.clone());
        }
        let known = |name: &str| levels.iter().any(|l| l.name == name);
        state.levels.retain(|name, held| known(name) || held.taken + held.waiting > 0);
    }

    /// Asks for a seat of a level for a request of a flow.
    pub(super) fn ask(self: &Arc<Self>, level: &str, flow: (&str, &str)) -> Answer {
        let mut state = self.state.lock();
        let Some(held) = state.levels.get(level) else { return Answer::Refuse("concurrency-limit") };
        if held.waiting == 0 && state.may(held, self.capacity) {
            state.take(level);
            return Answer::Run(Seat { seats: self.clone(), level: level.to_owned() });
        }
        let Some(queuing) = held.level.queuing else { return Answer::Refuse("concurrency-limit") };
        let queued = state.levels.get_mut(level).and_then(|held| held.enqueue(queuing, hash(flow)));
        drop(state);
        // A seat may be free for a level that has only just begun to wait.
        self.hand_out();
        queued.map_or(Answer::Refuse("queue-full"), Answer::Wait)
    }

    fn free(self: &Arc<Self>, level: &str) {
        {
            let mut state = self.state.lock();
            state.taken -= 1;
            if let Some(held) = state.levels.get_mut(level) {
                held.taken -= 1;
            }
        }
        self.hand_out();
    }

    /// Gives free seats to who waits. What nobody takes any more comes back by itself.
    fn hand_out(self: &Arc<Self>) {
        loop {
            let Some((level, request)) = self.state.lock().next(self.capacity) else { return };
            let seat = Seat { seats: self.clone(), level };
            if request.send(seat).is_err() {
                // Its drop has handed out the seat already.
                return;
            }
        }
    }

    /// Levels with the requests that run and wait, for metrics.
    pub(super) fn counts(&self) -> Vec<(String, usize, usize, usize)> {
        let state = self.state.lock();
        state.levels.values().map(|h| (h.level.name.clone(), h.level.nominal, h.taken, h.waiting)).collect()
    }
}

fn hash(flow: (&str, &str)) -> u64 {
    let mut hasher = DefaultHasher::new();
    flow.hash(&mut hasher);
    hasher.finish()
}

/// Deals a flow its hand of different queues (shuffle sharding, KEP-1040).
fn deal(mut flow: u64, queues: usize, hand: usize) -> Vec<usize> {
    let mut dealt: Vec<usize> = Vec::with_capacity(hand);
    for left in ((queues - hand + 1)..=queues).rev() {
        let left = left as u64;
        let mut card = usize::try_from(flow % left).unwrap_or_default();
        flow /= left;
        let mut sorted = dealt.clone();
        sorted.sort_unstable();
        for taken in sorted {
            card += usize::from(taken <= card);
        }
        dealt.push(card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(name: &str, nominal: usize, reserved: usize, length: usize) -> Level {
        let queuing = (length > 0).then_some(Queuing { queues: 8, hand: 2, length });
        Level { name: name.into(), nominal, reserved, queuing, ..Level::default() }
    }

    fn run(answer: Answer) -> Seat {
        match answer {
            Answer::Run(seat) => seat,
            other => panic!("no seat: {other:?}"),
        }
    }

    fn wait(answer: Answer) -> oneshot::Receiver<Seat> {
        match answer {
            Answer::Wait(receiver) => receiver,
            other => panic!("it does not wait: {other:?}"),
        }
    }

    #[test]
    fn a_hand_has_different_queues() {
        for flow in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let hand = deal(flow, 16, 6);
            let mut unique = hand.clone();
            unique.sort_unstable();
            unique.dedup();
            assert!(unique.len() == 6 && unique.iter().all(|q| *q < 16), "{hand:?}");
        }
        assert_eq!(deal(7, 1, 1), [0]);
    }

    #[test]
    fn what_is_reserved_is_kept_free_and_the_rest_is_lent() {
        let seats = Seats::new(4);
        seats.set(&[level("a", 2, 1, 0), level("b", 2, 1, 0)]);
        let borrowed: Vec<Seat> = (0..3).map(|_| run(seats.ask("a", ("s", "")))).collect();
        assert!(matches!(seats.ask("a", ("s", "")), Answer::Refuse("concurrency-limit")));
        let own = run(seats.ask("b", ("s", "")));
        assert!(matches!(seats.ask("b", ("s", "")), Answer::Refuse(_)));
        drop(borrowed);
        drop(run(seats.ask("b", ("s", ""))));
        drop(own);
        assert!(seats.counts().iter().all(|c| c.2 == 0));
    }

    #[test]
    fn a_seat_goes_to_the_level_below_its_share_first() {
        let seats = Seats::new(2);
        seats.set(&[level("a", 1, 0, 9), level("b", 1, 0, 9)]);
        let mut taken: Vec<Seat> = (0..2).map(|_| run(seats.ask("a", ("s", "x")))).collect();
        let (mut again, mut other) = (wait(seats.ask("a", ("s", "x"))), wait(seats.ask("b", ("s", "y"))));
        taken.pop();
        let _own = other.try_recv().expect("b is below its share");
        assert!(again.try_recv().is_err());
        taken.pop();
        assert!(again.try_recv().is_ok());
    }

    #[test]
    fn a_quiet_flow_does_not_wait_for_a_loud_one() {
        let seats = Seats::new(1);
        seats.set(&[level("a", 1, 1, 100)]);
        let first = run(seats.ask("a", ("s", "loud")));
        let mut loud: Vec<_> = (0..50).map(|_| wait(seats.ask("a", ("s", "loud")))).collect();
        let quiet = (0..).map(|i| format!("quiet{i}")).find(|name| {
            let hand = |flow: &str| deal(hash(("s", flow)), 8, 2);
            !hand(name).iter().any(|q| hand("loud").contains(q))
        });
        let mut quiet = wait(seats.ask("a", ("s", &quiet.expect("a flow of other queues"))));
        drop(first);
        let mut served = 0;
        while quiet.try_recv().is_err() {
            let seat = loud.iter_mut().find_map(|l| l.try_recv().ok()).expect("somebody is served");
            served += 1;
            assert!(served < 4, "the quiet flow waits behind the loud one");
            drop(seat);
        }
    }

    #[test]
    fn queues_are_bounded_and_forget_who_left() {
        let seats = Seats::new(1);
        seats.set(&[level("a", 1, 1, 2)]);
        let first = run(seats.ask("a", ("s", "x")));
        let waiting: Vec<_> = (0..4).map(|_| wait(seats.ask("a", ("s", "x")))).collect();
        assert!(matches!(seats.ask("a", ("s", "x")), Answer::Refuse("queue-full")));
        drop(waiting);
        let mut last = wait(seats.ask("a", ("s", "x")));
        drop(first);
        drop(last.try_recv().expect("those who left are passed over"));
        drop(run(seats.ask("a", ("s", "x"))));
        assert_eq!(seats.counts(), [("a".into(), 1, 0, 0)]);
    }

    #[test]
    fn levels_change_under_way() {
        let seats = Seats::new(2);
        seats.set(&[level("a", 1, 1, 9), level("b", 1, 1, 9)]);
        let (one, _two) = (run(seats.ask("a", ("s", "x"))), run(seats.ask("b", ("s", "x"))));
        let mut waiting = wait(seats.ask("a", ("s", "x")));
        seats.set(&[level("b", 2, 2, 9)]);
        assert!(matches!(seats.ask("c", ("s", "x")), Answer::Refuse(_)));
        drop(one);
        assert!(waiting.try_recv().is_ok() || seats.counts().iter().any(|c| c.0 == "a"));
    }
}
