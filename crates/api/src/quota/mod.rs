//! ResourceQuota: what objects use of a namespace's quotas, and which quotas count them.
//!
//! Pure, and shared by whoever counts: admission (what is left unsaid), the registry (the charge in an
//! object's own transaction) and the controller (status.used). [`usage`] names everything an object
//! uses; [`Quota::counted`] is the part of it that one quota counts.

pub mod pod;
mod scope;

pub use scope::{Operator, Scope};

use crate::kind::KindDef;
use crate::meta::quantity::Quantity;
use crate::tree;
use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};
use std::collections::BTreeMap;

/// Amounts by the names quotas know.
pub type Amounts = BTreeMap<SmolStr, Quantity>;

/// Adds amounts to others.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |have| *have + *amount);
        to.insert(name.clone(), sum);
    }
}

/// The quantities of a JSON object; members that are none are left out (validation refuses them).
pub fn amounts(list: Option<&Value>) -> Amounts {
    let entries = list.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, v)| Some((SmolStr::new(name), Quantity::from_value(v).ok()?))).collect()
}

/// The name under which objects of a kind are counted: `count/pods`, `count/deployments.apps`.
pub fn count_name(def: &KindDef) -> SmolStr {
    match def.group.as_str() {
        "" => format_smolstr!("count/{}", def.plural),
        group => format_smolstr!("count/{}.{group}", def.plural),
    }
}

/// Can quotas count objects of this kind?
pub fn countable(def: &KindDef) -> bool {
    // What expires by itself is in nobody's way.
    def.namespaced() && def.ttl.is_none() && def.storage.is_none()
}

/// Everything an object uses.
pub fn usage(def: &KindDef, obj: &Value) -> Amounts {
    if !countable(def) {
        return Amounts::new();
    }
    let mut used = def.strategy.usage(def, obj);
    used.insert(count_name(def), Quantity::from_int(1));
    used
}

/// What counters hold an amount in: thousandths of CPU, whole units of all else, rounded up.
pub fn counter(name: &str, amount: Quantity) -> i64 {
    if is_cpu(name) { amount.milli() } else { amount.value() }
}

/// The amount a counter holds. `like` gives its form.
pub fn of_counter(name: &str, count: i64, like: Quantity) -> Quantity {
    let amount = if is_cpu(name) { Quantity::from_milli(count) } else { Quantity::from_int(count) };
    amount.formatted_like(like)
}

fn is_cpu(name: &str) -> bool {
    matches!(name, "cpu" | "requests.cpu" | "limits.cpu")
}

/// One quota, as far as counting goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Quota {
    /// metadata.name
    pub name: SmolStr,
    /// metadata.uid
    pub uid: SmolStr,
    /// spec.hard
    pub hard: Amounts,
    /// All of these must hold of an object for it to count.
    pub scopes: Vec<Scope>,
}

impl Quota {
    /// Reads a ResourceQuota.
    pub fn of(obj: &Value) -> Self {
        let plain = tree::list(obj, "spec.scopes").iter().filter_map(Value::as_str).map(Scope::exists);
        let selected = tree::list(obj, "spec.scopeSelector.matchExpressions").iter().map(Scope::of);
        Self {
            name: tree::text(obj, "metadata.name").into(),
            uid: tree::text(obj, "metadata.uid").into(),
            hard: amounts(tree::at(obj, "spec.hard")),
            scopes: plain.chain(selected).collect(),
        }
    }
    /// Is the object in all of the quota's scopes?
    pub fn covers(&self, def: &KindDef, obj: &Value) -> bool {
        self.scopes.iter().all(|scope| def.strategy.in_scope(obj, scope))
    }
    /// The part of an object's use that this quota bounds.
    pub fn counted(&self, def: &KindDef, obj: &Value) -> Amounts {
        if !self.covers(def, obj) {
            return Amounts::new();
        }
        let mut used = usage(def, obj);
        used.retain(|name, _| self.hard.contains_key(name));
        used
    }
    /// The hard bounds at zero: what is used where nothing is.
    pub fn nothing(&self, known: impl Fn(&str) -> bool) -> Amounts {
        let bounds = self.hard.iter().filter(|(name, _)| known(name));
        bounds.map(|(name, hard)| (name.clone(), Quantity::ZERO.formatted_like(*hard))).collect()
    }
}

/// `a=1,b=2`, as refusals list amounts.
pub fn list<'a>(amounts: impl Iterator<Item = (&'a SmolStr, Quantity)>) -> String {
    amounts.map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}
