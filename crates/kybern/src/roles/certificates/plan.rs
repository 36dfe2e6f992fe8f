//! What the leader does next about certificates. Pure.

use super::board::{Board, Kind, Request};
use jiff::Timestamp;
use kybern_authn::pki::{ClusterKeys, Phase};
use std::fmt::Write;

/// How many names a message lists.
const NAMED: usize = 5;

/// What the leader sees.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) now: Timestamp,
    pub(super) keys: &'a ClusterKeys,
    pub(super) board: &'a Board,
    /// Names of the cluster's servers.
    pub(super) servers: &'a [String],
    /// Nodes, and the step that each has taken; None: not looked at.
    pub(super) nodes: Option<&'a [(String, u64)]>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// There is nothing to do before this time.
    Rest(Timestamp),
    /// Ask for new CAs, since the present ones grow old.
    Ask,
    /// Tell everybody about the set of keys that the servers have.
    Publish,
    /// The nodes have to be looked at.
    Look,
    /// Somebody has not taken the present step.
    Wait(String),
    /// The present step has to last until this time.
    Pause(Timestamp),
    /// Begin what was requested.
    Begin(Request),
    /// The new CAs sign from now on.
    Switch,
    /// The old CAs go.
    Drop,
    /// What was requested is done, or cannot be understood.
    Finish,
}

/// The next step.
pub(super) fn next(seen: &Seen<'_>) -> Step {
    let rotation = &seen.keys.rotation;
    let late = seen.servers.iter().filter(|s| seen.board.servers.get(*s).is_none_or(|g| *g < rotation.generation));
    if let Some(names) = names(late) {
        return Step::Wait(format!("waiting for the servers: {names}"));
    }
    if seen.board.generation != Some(rotation.generation) {
        return Step::Publish;
    }
    let (phase, wanted) = (seen.keys.phase(), &seen.board.request);
    if phase == Phase::Settled && (wanted.is_empty() || *wanted == seen.board.done) {
        let due = seen.keys.renew_at();
        return if due <= seen.now { Step::Ask } else { Step::Rest(due) };
    }
    if phase == Phase::Settled && *wanted != rotation.request {
        return wanted.parse().map_or(Step::Finish, Step::Begin);
    }
    let Some(nodes) = seen.nodes else { return Step::Look };
    let late = nodes.iter().filter(|(_, taken)| *taken < rotation.generation).map(|(name, _)| name);
    if let Some(names) = names(late) {
        return Step::Wait(format!("waiting for the nodes (bring them back, or delete them): {names}"));
    }
    // Also after a change of leader the pause is the one that was asked for.
    let pause = rotation.request.parse::<Request>().map(|r| r.pause).unwrap_or_default();
    let due = seen.board.since.map_or(seen.now, |since| since.saturating_add(pause).unwrap_or(seen.now));
    match phase {
        Phase::Announced | Phase::Switched if seen.now < due => Step::Pause(due),
        Phase::Announced => Step::Switch,
        Phase::Switched => Step::Drop,
        Phase::Settled => Step::Finish,
    }
}

/// The set of keys that follows the present one; None: the step changes none.
pub(super) fn follows(step: &Step, keys: &ClusterKeys, now: Timestamp) -> kybern_authn::Result<Option<ClusterKeys>> {
    match step {
        Step::Begin(request) => match request.kind {
            Kind::Leaves => keys.renew_leaves(&request.to_string()),
            Kind::Authorities => keys.announce(&request.to_string(), now),
        },
        Step::Switch => keys.switch(),
        Step::Drop => keys.drop_old(),
        _ => return Ok(None),
    }
    .map(Some)
}

fn names<'a>(of: impl Iterator<Item = &'a String>) -> Option<String> {
    let all: Vec<&str> = of.map(String::as_str).collect();
    let mut text = all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if all.len() > NAMED {
        write!(text, " and {} more", all.len() - NAMED).ok()?;
    }
    (!all.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use std::collections::BTreeMap;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + seconds).unwrap()
    }

    /// A cluster of two servers and two nodes, played by the plan's own rules.
    struct World {
        keys: ClusterKeys,
        board: Board,
        nodes: Vec<(String, u64)>,
        now: Timestamp,
    }

    impl World {
        fn new() -> Self {
            let board = Board { servers: BTreeMap::from([("s1".into(), 0), ("s2".into(), 0)]), ..Board::default() };
            let keys = ClusterKeys::create(at(0)).unwrap();
            Self { keys, board, nodes: vec![("n1".into(), 0), ("n2".into(), 0)], now: at(0) }
        }
        fn step(&self) -> Step {
            let servers = ["s1".to_owned(), "s2".to_owned()];
            let seen = Seen {
                now: self.now,
                keys: &self.keys,
                board: &self.board,
                servers: &servers,
                nodes: Some(&self.nodes),
            };
            next(&seen)
        }
        fn does(&mut self, wanted: &Step) {
            let step = self.step();
            assert_eq!(step, *wanted);
            match &step {
                Step::Publish => {
                    self.board.generation = Some(self.keys.rotation.generation);
                    self.board.since = Some(self.now);
                }
                Step::Finish => self.board.done = self.board.request.clone(),
                other => self.keys = follows(other, &self.keys, self.now).unwrap().expect("a new set"),
            }
        }
        fn servers_take(&mut self) {
            for server in ["s1", "s2"] {
                assert!(matches!(self.step(), Step::Wait(text) if text.contains("servers") && text.contains(server)));
                self.board.servers.insert(server.into(), self.keys.rotation.generation);
            }
            self.does(&Step::Publish);
        }
        /// Servers and nodes take the step in turn; nothing goes on before the last has.
        fn all_take(&mut self) {
            let generation = self.keys.rotation.generation;
            self.servers_take();
            for i in [1, 0] {
                let name = self.nodes[i].0.clone();
                assert!(matches!(self.step(), Step::Wait(text) if text.contains("nodes") && text.contains(&name)));
                self.nodes[i].1 = generation;
            }
        }
    }

    #[test]
    fn cas_are_replaced_in_three_steps_that_everybody_takes() {
        let mut w = World::new();
        w.does(&Step::Publish);
        assert_eq!(w.step(), Step::Rest(w.keys.renew_at()));
        w.board.request = "authorities/a/60".into();
        let founded = w.keys.server_ca.fingerprint();
        w.does(&Step::Begin("authorities/a/60".parse().unwrap()));
        assert_eq!((w.keys.phase(), w.keys.server_ca.fingerprint()), (Phase::Announced, founded.clone()));
        w.all_take();
        assert_eq!(w.step(), Step::Pause(at(60)));
        w.now = at(60);
        w.does(&Step::Switch);
        assert_ne!(w.keys.server_ca.fingerprint(), founded);
        w.all_take();
        assert_eq!(w.step(), Step::Pause(at(120)));
        w.now = at(121);
        w.does(&Step::Drop);
        w.all_take();
        w.does(&Step::Finish);
        assert_eq!(w.keys.phase(), Phase::Settled);
        assert!(matches!(w.step(), Step::Rest(_)));
    }

    #[test]
    fn leaves_are_renewed_in_one_step() {
        let mut w = World::new();
        w.does(&Step::Publish);
        w.board.request = "leaves/a".into();
        w.does(&Step::Begin("leaves/a".parse().unwrap()));
        assert_eq!((w.keys.rotation.generation, w.keys.rotation.leaves), (1, 1));
        w.all_take();
        w.does(&Step::Finish);
        assert!(matches!(w.step(), Step::Rest(_)));
    }

    #[test]
    fn a_server_that_is_off_holds_up_everything_and_a_removed_one_nothing() {
        let mut w = World::new();
        w.board.servers.remove("s2");
        assert!(matches!(w.step(), Step::Wait(text) if text.ends_with("s2")));
        let servers = ["s1".to_owned()];
        let seen = Seen { now: w.now, keys: &w.keys, board: &w.board, servers: &servers, nodes: None };
        assert_eq!(next(&seen), Step::Publish);
    }

    #[test]
    fn cas_that_grow_old_are_replaced_unasked() {
        let mut w = World::new();
        w.does(&Step::Publish);
        w.now = w.keys.renew_at() - SignedDuration::from_secs(1);
        assert_eq!(w.step(), Step::Rest(w.keys.renew_at()));
        w.now = w.keys.renew_at();
        assert_eq!(w.step(), Step::Ask);
    }

    #[test]
    fn nonsense_is_finished_and_nodes_are_looked_at_only_where_it_matters() {
        let mut w = World::new();
        w.does(&Step::Publish);
        w.board.request = "everything".into();
        assert_eq!(w.step(), Step::Finish);
        w.board.request = "leaves/b".into();
        let unseen = |w: &World| {
            let servers = ["s1".to_owned(), "s2".to_owned()];
            next(&Seen { now: w.now, keys: &w.keys, board: &w.board, servers: &servers, nodes: None })
        };
        assert!(matches!(unseen(&w), Step::Begin(_)));
        w.does(&Step::Begin("leaves/b".parse().unwrap()));
        w.board.servers.values_mut().for_each(|g| *g = 1);
        w.does(&Step::Publish);
        assert_eq!(unseen(&w), Step::Look);
    }

    #[test]
    fn a_request_that_comes_while_another_runs_follows_it() {
        let mut w = World::new();
        w.does(&Step::Publish);
        w.board.request = "authorities/a/0".into();
        w.does(&Step::Begin("authorities/a/0".parse().unwrap()));
        w.all_take();
        w.board.request = "leaves/b".into();
        w.does(&Step::Switch);
        w.all_take();
        w.does(&Step::Drop);
        w.servers_take();
        w.does(&Step::Begin("leaves/b".parse().unwrap()));
    }

    #[test]
    fn many_late_nodes_are_counted() {
        let many: Vec<String> = (1..=7).map(|i| format!("n{i}")).collect();
        assert_eq!(names(many.iter()).as_deref(), Some("n1, n2, n3, n4, n5 and 2 more"));
        assert_eq!(names(std::iter::empty()), None);
    }
}
