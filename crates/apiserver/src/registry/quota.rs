//! Quota use, taken in the object's own transaction.
//!
//! Each bound of a quota has a counter key. A write adds to the counters what the object comes to use and
//! takes away what it ceases to use; apply checks the bound, so writers on any number of servers share
//! what is left exactly, without losing guards to each other.
//!
//! A counter of a new quota, or of a bound that is new in it, begins at nothing. So every write of a
//! quota adds the difference between what its objects use and what its counters say, both read from one
//! snapshot: charges that come between change both alike, and the guard on the quota's own revision
//! keeps two corrections apart.

use crate::registry::kinds::Kind;
use crate::server::Inner;
use bytes::Bytes;
use kybern_api::error::Status;
use kybern_api::kind::KindDef;
use kybern_api::meta::quantity::Quantity;
use kybern_api::quota::{self, Amounts, Quota, counter, of_counter};
use kybern_raftstore::model::{KeyValue, Op, prefix_end};
use kybern_raftstore::store::View;
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::BTreeSet;

/// The plugin that turns quotas on.
const PLUGIN: &str = "ResourceQuota";
const QUOTAS: &str = "resourcequotas";

/// Where a quota's counters lie. Outside `/registry/`: no object.
fn counters(namespace: &str, quota: &Quota) -> String {
    format!("/quota/{namespace}/{}/", quota.uid)
}

/// One counter that a write moves.
#[derive(Debug)]
struct Line {
    quota: usize,
    bound: SmolStr,
    key: Bytes,
    delta: i64,
    /// What the counter may become.
    max: i64,
}

/// What one write takes from its namespace's quotas, and gives back.
#[derive(Debug, Default)]
pub struct Charges {
    quotas: Vec<Quota>,
    lines: Vec<Line>,
    /// Changes of a quota's own counters, when the object is one.
    own: Vec<Op>,
}

impl Charges {
    /// What a change from `old` to `new` (either may be nothing) takes.
    ///
    /// # Errors
    /// When a stored quota cannot be read.
    pub fn of(
        server: &Inner,
        (def, namespace): (&KindDef, &str),
        new: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Self, Status> {
        let mut charges = Self::default();
        if namespace.is_empty() || !server.admission.runs(PLUGIN) {
            return Ok(charges);
        }
        charges.own = own(server, (def, namespace), new, old)?;
        // A change in place moves no plain count.
        if !quota::countable(def) || (new.is_some() && old.is_some() && !def.strategy.usage_varies()) {
            return Ok(charges);
        }
        let Some(quotas) = server.kinds.resource("", QUOTAS) else { return Ok(charges) };
        // From the store: the caches may not have heard yet of a quota that this server has just answered for.
        for entry in within(server.store.view().as_ref(), &quotas, namespace) {
            charges.count(def, namespace, Quota::of(&opened(&quotas, &entry)?), new, old);
        }
        Ok(charges)
    }

    fn count(&mut self, def: &KindDef, namespace: &str, quota: Quota, new: Option<&Value>, old: Option<&Value>) {
        let counted = |obj: Option<&Value>| obj.map(|o| quota.counted(def, o)).unwrap_or_default();
        let (wants, had) = (counted(new), counted(old));
        let amount = |of: &Amounts, name: &SmolStr| of.get(name).map_or(0, |a| counter(name, *a));
        let prefix = counters(namespace, &quota);
        for (bound, hard) in &quota.hard {
            let delta = amount(&wants, bound).saturating_sub(amount(&had, bound));
            if delta != 0 {
                let max = if delta > 0 { counter(bound, *hard) } else { i64::MAX };
                let key = Bytes::from(format!("{prefix}{bound}"));
                self.lines.push(Line { quota: self.quotas.len(), bound: bound.clone(), key, delta, max });
            }
        }
        self.quotas.push(quota);
    }

    /// The operations that go into the object's transaction.
    pub fn ops(&self) -> impl Iterator<Item = Op> + '_ {
        let add = |l: &Line| Op::Add { key: l.key.clone(), delta: l.delta, max: l.max };
        self.lines.iter().map(add).chain(self.own.iter().cloned())
    }

    /// Is there room for all of it, by the counters as they stand here?
    ///
    /// # Errors
    /// 403 naming the first quota that has none, what was asked, used and allowed.
    pub fn check(&self, server: &Inner, def: &KindDef, name: &str) -> Result<(), Status> {
        if self.lines.iter().all(|l| l.delta < 0) {
            return Ok(());
        }
        let view = server.store.view();
        let over = |l: &&Line| l.delta > 0 && read(view.as_ref(), &l.key).saturating_add(l.delta) > l.max;
        match self.lines.iter().find(over) {
            Some(line) => Err(self.exceeded(view.as_ref(), line, def, name)),
            None => Ok(()),
        }
    }

    /// The refusal after the operation at `index` of [`Charges::ops`] was over its bound.
    pub fn refused(&self, server: &Inner, index: usize, def: &KindDef, name: &str) -> Status {
        match self.lines.get(index) {
            Some(line) => self.exceeded(server.store.view().as_ref(), line, def, name),
            None => crate::error::retry_later(),
        }
    }

    /// The refusal of one quota: every bound of it that is exceeded, at least that of `line`.
    fn exceeded(&self, view: &dyn View, line: &Line, def: &KindDef, name: &str) -> Status {
        let quota = &self.quotas[line.quota];
        let over = |l: &&Line| {
            let more = l.delta > 0 && read(view, &l.key).saturating_add(l.delta) > l.max;
            l.quota == line.quota && (more || l.key == line.key)
        };
        let lines: Vec<&Line> = self.lines.iter().filter(over).collect();
        let hard = |l: &Line| quota.hard.get(&l.bound).copied().unwrap_or(Quantity::ZERO);
        let shown = |amount: &dyn Fn(&Line) -> Quantity| quota::list(lines.iter().map(|l| (&l.bound, amount(l))));
        let text = format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            quota.name,
            shown(&|l| of_counter(&l.bound, l.delta, hard(l))),
            shown(&|l| of_counter(&l.bound, read(view, &l.key), hard(l))),
            shown(&hard),
        );
        Status::forbidden(&def.group, &def.plural, name, &text)
    }
}

/// A counter's value.
fn read(view: &dyn View, key: &[u8]) -> i64 {
    let value = view.get(key);
    value.and_then(|kv| std::str::from_utf8(&kv.value).ok()?.parse().ok()).unwrap_or(0)
}

/// What a write of a quota does to the quota's own counters.
fn own(
    server: &Inner,
    (def, namespace): (&KindDef, &str),
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<Vec<Op>, Status> {
    let of = |obj: Option<&Value>| obj.and_then(|o| def.strategy.quota(o));
    match (of(new), of(old)) {
        (Some(quota), _) => correct(server, namespace, &quota),
        (None, Some(gone)) => {
            let prefix = counters(namespace, &gone);
            let (keys, _) = server.store.view().range(prefix.as_bytes(), &prefix_end(prefix.as_bytes()), 0);
            Ok(keys.into_iter().map(|kv| Op::Delete(kv.key)).collect())
        }
        (None, None) => Ok(Vec::new()),
    }
}

/// Adds to a quota's counters what they lack.
fn correct(server: &Inner, namespace: &str, quota: &Quota) -> Result<Vec<Op>, Status> {
    let view = server.store.view();
    let used = used(server, view.as_ref(), namespace, quota)?;
    let prefix = counters(namespace, quota);
    let mut ops = Vec::new();
    for bound in quota.hard.keys() {
        let key = Bytes::from(format!("{prefix}{bound}"));
        let delta = used.get(bound).map_or(0, |a| counter(bound, *a)).saturating_sub(read(view.as_ref(), &key));
        if delta != 0 {
            ops.push(Op::Add { key, delta, max: i64::MAX });
        }
    }
    Ok(ops)
}

/// What the objects of a snapshot use of a quota.
fn used(server: &Inner, view: &dyn View, namespace: &str, quota: &Quota) -> Result<Amounts, Status> {
    let mut used = Amounts::new();
    let counts: BTreeSet<&SmolStr> = quota.hard.keys().collect();
    for kind in server.kinds.all().into_iter().filter(|k| quota::countable(&k.def)) {
        if kind.def.strategy.usage_varies() {
            for entry in within(view, &kind, namespace) {
                quota::add(&mut used, &quota.counted(&kind.def, &opened(&kind, &entry)?));
            }
        } else if quota.scopes.is_empty() {
            // Without looking at them: each counts as one.
            let prefix = kind.cache.keys().object(namespace, "");
            let number = i64::try_from(view.count(&prefix, &prefix_end(&prefix))).unwrap_or(i64::MAX);
            let names = quota::usage(&kind.def, &Value::Null).into_keys().filter(|n| counts.contains(n));
            used.extend(names.map(|n| (n, Quantity::from_int(number))));
        }
    }
    Ok(used)
}

/// A kind's entries in one namespace.
fn within(view: &dyn View, kind: &Kind, namespace: &str) -> Vec<KeyValue> {
    let prefix = kind.cache.keys().object(namespace, "");
    view.range(&prefix, &prefix_end(&prefix), 0).0
}

fn opened(kind: &Kind, entry: &KeyValue) -> Result<Value, Status> {
    use crate::cache::feeder::Open;
    let object = kind.opener.open(entry).ok_or_else(|| Status::internal("a stored object cannot be read"))?;
    object.tree().map_err(|e| Status::internal(e.to_string()))
}
