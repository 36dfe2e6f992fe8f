//! Who owns a host, and a path of it: the oldest Ingress that names it.
//!
//! A host belongs to the namespace of the oldest Ingress that names it: another namespace cannot put paths
//! under it. Within its namespace the paths of several Ingresses are put together. Requests whose host
//! nobody names are everybody's; of a path named twice there the older counts too.

use super::{Ingress, Path, PathType};
use smol_str::SmolStr;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What has been claimed so far. To be filled in [`order`].
#[derive(Debug, Default)]
pub struct Claims {
    hosts: HashMap<SmolStr, Holder>,
    paths: HashMap<(SmolStr, PathType, String), Holder>,
    default: Option<Holder>,
}

#[derive(Debug, Clone)]
struct Holder {
    namespace: SmolStr,
    key: String,
}

/// What an Ingress got of what it wanted.
#[derive(Debug, Default)]
pub struct Taken<'a> {
    /// Hosts that its namespace owns, each with the paths that are its own.
    pub rules: Vec<(&'a SmolStr, Vec<&'a Path>)>,
    /// Certificates: hosts that its namespace owns, and the Secret.
    pub certificates: Vec<(&'a SmolStr, &'a SmolStr)>,
    /// Does its default backend take what nobody else does?
    pub is_default: bool,
    /// What it did not get and why, for people.
    pub refused: Vec<String>,
}

/// Oldest first; of equally old ones by name.
pub fn order(a: &Ingress, b: &Ingress) -> Ordering {
    (a.created, &a.namespace, &a.name).cmp(&(b.created, &b.namespace, &b.name))
}

impl Claims {
    /// Gives an Ingress what is still free.
    pub fn take<'a>(&mut self, ingress: &'a Ingress) -> Taken<'a> {
        let mut taken = Taken::default();
        let me = Holder { namespace: ingress.namespace.clone(), key: ingress.key() };
        for rule in &ingress.rules {
            if !self.host(&rule.host, &me, &mut taken.refused) {
                continue;
            }
            let paths = rule.paths.iter().filter(|p| self.path(&rule.host, p, &me, &mut taken.refused)).collect();
            taken.rules.push((&rule.host, paths));
        }
        for tls in ingress.tls.iter().filter(|t| !t.secret.is_empty()) {
            for host in ingress.covered(tls) {
                if self.host(host, &me, &mut taken.refused) {
                    taken.certificates.push((host, &tls.secret));
                }
            }
        }
        if ingress.default.is_some() && ingress.rules.is_empty() {
            match &self.default {
                Some(holder) => taken.refused.push(format!("the default backend is that of Ingress {}", holder.key)),
                None => (self.default, taken.is_default) = (Some(me), true),
            }
        }
        taken.refused.sort();
        taken.refused.dedup();
        taken
    }

    fn host(&mut self, host: &SmolStr, me: &Holder, refused: &mut Vec<String>) -> bool {
        if host.is_empty() {
            return true;
        }
        let holder = self.hosts.entry(host.clone()).or_insert_with(|| me.clone());
        if holder.namespace != me.namespace {
            refused.push(format!("host {host:?} belongs to Ingress {}, which is older", holder.key));
        }
        holder.namespace == me.namespace
    }

    fn path(&mut self, host: &SmolStr, path: &Path, me: &Holder, refused: &mut Vec<String>) -> bool {
        match self.paths.entry((host.clone(), path.kind, path.path.clone())) {
            Entry::Vacant(free) => {
                free.insert(me.clone());
                true
            }
            Entry::Occupied(held) => {
                let of = if host.is_empty() { String::new() } else { format!(" of host {host:?}") };
                let (path, holder) = (&path.path, &held.get().key);
                refused.push(format!("path {path:?}{of} belongs to Ingress {holder}, which is older"));
                false
            }
        }
    }
}
