//! Callers who wait for the result of their transaction.
//!
//! A result comes from this member's own apply, wherever the transaction was proposed. That is also
//! what makes most failures certain: a transaction is proposed in one term only, so when an entry of
//! a later term is applied here and the transaction was not seen, it never will be.

use crate::batch::Ticket;
use crate::model::TxnOutcome;
use crate::store::Error;
use parking_lot::Mutex;
use std::collections::HashMap;
use tokio::sync::oneshot;

pub(crate) type Answer = Result<TxnOutcome, Error>;

struct Waiting {
    answer: oneshot::Sender<Answer>,
    /// The term it was proposed in; None while it is certainly not proposed.
    term: Option<u64>,
}

/// The waiting callers of one run of a member.
pub(crate) struct Pending {
    run: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    waiting: HashMap<u64, Waiting>,
    /// Terms below this have been settled.
    term: u64,
}

impl Pending {
    /// Nobody waits yet. `run` is different for every start of every member.
    pub(crate) fn new(run: u64) -> Self {
        Self { run, inner: Mutex::default() }
    }

    /// A new ticket and where its answer will arrive.
    pub(crate) fn register(&self) -> (Ticket, oneshot::Receiver<Answer>) {
        let (answer, receiver) = oneshot::channel();
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        inner.waiting.insert(number, Waiting { answer, term: None });
        (Ticket { run: self.run, number }, receiver)
    }

    /// Was the ticket issued here, in this run?
    pub(crate) fn is_ours(&self, ticket: Ticket) -> bool {
        ticket.run == self.run
    }

    /// The transaction is about to be proposed in a term: from now on its outcome is uncertain.
    /// False when its caller has given up: it must not be proposed then.
    pub(crate) fn claim(&self, number: u64, term: u64) -> bool {
        let mut inner = self.inner.lock();
        // An entry of a later term may have been applied meanwhile, and nothing would settle this one.
        if term < inner.term {
            return inner.waiting.contains_key(&number);
        }
        inner.waiting.get_mut(&number).map(|waiting| waiting.term = Some(term)).is_some()
    }

    /// The transactions were certainly not proposed after all.
    pub(crate) fn unclaim(&self, numbers: impl Iterator<Item = u64>) {
        let mut inner = self.inner.lock();
        for number in numbers {
            if let Some(waiting) = inner.waiting.get_mut(&number) {
                waiting.term = None;
            }
        }
    }

    /// Tells a caller why its transaction was not proposed.
    pub(crate) fn fail(&self, number: u64, error: Error) {
        self.resolve(Ticket { run: self.run, number }, Err(error));
    }

    /// Answers a caller. Without effect when it was answered or gave up before.
    pub(crate) fn resolve(&self, ticket: Ticket, answer: Answer) {
        if let Some(waiting) = self.inner.lock().waiting.remove(&ticket.number) {
            let _ = waiting.answer.send(answer);
        }
    }

    /// An entry of `term` was applied: what was proposed in an earlier term and not seen is lost.
    pub(crate) fn lost_before(&self, term: u64) {
        let mut inner = self.inner.lock();
        if term <= inner.term {
            return;
        }
        inner.term = term;
        let lost = inner.waiting.extract_if(|_, waiting| waiting.term.is_some_and(|sent| sent < term));
        for (_, waiting) in lost {
            let _ = waiting.answer.send(Err(Error::NoLeader("lost with its leader, not applied".into())));
        }
    }

    /// The state jumped: what had been proposed may or may not be part of it.
    pub(crate) fn unknown_sent(&self) {
        let mut inner = self.inner.lock();
        for (_, waiting) in inner.waiting.extract_if(|_, waiting| waiting.term.is_some()) {
            let _ = waiting.answer.send(Err(Error::Unknown("the state was replaced by a snapshot".into())));
        }
    }

    /// A caller gave up: was its transaction possibly proposed?
    pub(crate) fn give_up(&self, ticket: Ticket) -> bool {
        self.inner.lock().waiting.remove(&ticket.number).is_none_or(|waiting| waiting.term.is_some())
    }

    /// The member stops: everybody is answered.
    pub(crate) fn stop(&self) {
        for (_, waiting) in self.inner.lock().waiting.drain() {
            let error = if waiting.term.is_some() { Error::Unknown("stopped".into()) } else { Error::Stopped };
            let _ = waiting.answer.send(Err(error));
        }
    }
}
