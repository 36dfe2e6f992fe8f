//! Values out of shared ranges (service addresses, node ports), taken in the object's own transaction.
//!
//! Each taken value is a key; a guard on its absence makes two takers impossible, on any number of
//! servers. Values are chosen from a local view, so a lost guard only means: choose another.

use crate::server::Inner;
use bytes::Bytes;
use kybern_api::error::{Cause, Status};
use kybern_api::kind::{KindDef, Pool, Slot};
use kybern_raftstore::model::{Guard, Op};
use serde_json::Value;
use smol_str::SmolStr;
use std::net::Ipv4Addr;

/// The ranges values are taken from.
#[derive(Debug, Clone, Copy)]
pub struct Ranges {
    /// Addresses of services.
    pub services: ipnet::Ipv4Net,
    /// First and last port that services may take on nodes.
    pub node_ports: (u16, u16),
}

impl Default for Ranges {
    /// 10.43.0.0/16 and 30000-32767.
    fn default() -> Self {
        let services = ipnet::Ipv4Net::new(Ipv4Addr::new(10, 43, 0, 0), 16).unwrap_or_default();
        Self { services, node_ports: (30_000, 32_767) }
    }
}

impl Ranges {
    fn size(&self, pool: Pool) -> u32 {
        match pool {
            // Neither the network's nor the broadcast address.
            Pool::ServiceAddress => (1u32 << (32 - self.services.prefix_len().max(1))).saturating_sub(2),
            Pool::NodePort => u32::from(self.node_ports.1.saturating_sub(self.node_ports.0)) + 1,
        }
    }

    /// The lower part of a range is left to values that are asked for by number.
    fn reserved(&self, pool: Pool) -> u32 {
        let size = self.size(pool);
        match pool {
            Pool::ServiceAddress => (size / 16).clamp(16, 256).min(size / 2),
            Pool::NodePort => (size / 32).clamp(16, 128).min(size / 2),
        }
    }

    fn value(&self, pool: Pool, index: u32) -> SmolStr {
        match pool {
            Pool::ServiceAddress => {
                let address = u32::from(self.services.network()).wrapping_add(index + 1);
                SmolStr::new(Ipv4Addr::from(address).to_string())
            }
            Pool::NodePort => SmolStr::new((u32::from(self.node_ports.0) + index).to_string()),
        }
    }

    fn contains(&self, pool: Pool, value: &str) -> bool {
        match pool {
            Pool::ServiceAddress => value.parse().is_ok_and(|a: Ipv4Addr| self.services.contains(&a)),
            Pool::NodePort => value.parse().is_ok_and(|p: u16| (self.node_ports.0..=self.node_ports.1).contains(&p)),
        }
    }
}

/// The key that stands for a taken value. Outside `/registry/`: no object.
fn key(pool: Pool, class: &str, value: &str) -> Bytes {
    let pool = match pool {
        Pool::ServiceAddress => "service-addresses",
        Pool::NodePort => "node-ports",
    };
    Bytes::from(format!("/allocations/{pool}/{class}/{value}"))
}

/// What one write takes and gives back.
#[derive(Debug)]
pub struct Claims<'a> {
    def: &'a KindDef,
    name: String,
    take: Vec<Slot>,
    give: Vec<Bytes>,
}

impl<'a> Claims<'a> {
    /// What a new object takes.
    ///
    /// # Errors
    /// 422 for a value outside its range.
    pub fn of_new(server: &Inner, def: &'a KindDef, obj: &Value) -> Result<Self, Status> {
        Self::of_update(server, def, obj, &Value::Null)
    }

    /// What a changed object takes and gives back.
    ///
    /// # Errors
    /// 422 for a value outside its range.
    pub fn of_update(server: &Inner, def: &'a KindDef, obj: &Value, old: &Value) -> Result<Self, Status> {
        let name = kybern_api::tree::text(obj, "metadata.name").to_owned();
        let (had, wants) = (def.strategy.slots(old), def.strategy.slots(obj));
        let same = |a: &Slot, b: &Slot| a.pool == b.pool && a.class == b.class && a.value == b.value;
        let claims = Self {
            def,
            name,
            give: had.iter().filter(|h| !wants.iter().any(|w| same(h, w))).filter_map(slot_key).collect(),
            take: wants.into_iter().filter(|w| w.value.is_none() || !had.iter().any(|h| same(h, w))).collect(),
        };
        let outside = |s: &&Slot| s.value.as_ref().is_some_and(|v| !server.ranges.contains(s.pool, v));
        match claims.take.iter().find(outside) {
            Some(slot) => Err(claims.invalid(slot, "the provided value is not in the valid range")),
            None => Ok(claims),
        }
    }

    /// The operations that give back everything a deleted object holds.
    pub fn release(_server: &Inner, def: &KindDef, old: &Value) -> Vec<Op> {
        def.strategy.slots(old).iter().filter_map(slot_key).map(Op::Delete).collect()
    }

    /// Chooses free values for the open slots, writes them into the object, and returns what makes
    /// them its own.
    ///
    /// # Errors
    /// 422 when a range is used up.
    pub fn settle(&self, server: &Inner, obj: &mut Value) -> Result<(Vec<Guard>, Vec<Op>), Status> {
        let mut guards = Vec::with_capacity(self.take.len());
        let mut ops: Vec<Op> = self.give.iter().cloned().map(Op::Delete).collect();
        let owner = Bytes::from(format!("{}/{}", kybern_api::tree::text(obj, "metadata.namespace"), self.name));
        let mut chosen: Vec<Bytes> = Vec::new();
        for slot in &self.take {
            let value = match &slot.value {
                Some(v) => v.clone(),
                None => self.choose(server, slot, &chosen)?,
            };
            let key = key(slot.pool, &slot.class, &value);
            chosen.push(key.clone());
            place(obj, slot, &value);
            guards.push(Guard::Absent(key.clone()));
            ops.push(Op::Put { key, value: owner.clone(), stamp: None, lease: 0, ttl: None });
        }
        Ok((guards, ops))
    }

    /// What to do after the guard at `index` was lost: nothing where any value will do.
    ///
    /// # Errors
    /// 422 when the object asked for this very value.
    pub fn refused(&self, index: usize) -> Result<(), Status> {
        match self.take.get(index) {
            Some(slot) if slot.value.is_some() => Err(self.invalid(slot, "provided value is already allocated")),
            _ => Ok(()),
        }
    }

    /// A free value: from a random place in the free part of the range onwards, then the reserved part.
    fn choose(&self, server: &Inner, slot: &Slot, chosen: &[Bytes]) -> Result<SmolStr, Status> {
        let (ranges, view) = (&server.ranges, server.store.view());
        let (size, reserved) = (ranges.size(slot.pool), ranges.reserved(slot.pool));
        let open = size - reserved;
        let start = random_below(server, open);
        let candidates = (0..open).map(|i| reserved + (start + i) % open).chain((0..reserved).rev());
        for index in candidates {
            let value = ranges.value(slot.pool, index);
            let key = key(slot.pool, &slot.class, &value);
            if view.get(&key).is_none() && !chosen.contains(&key) {
                return Ok(value);
            }
        }
        Err(self.invalid(slot, "range is full"))
    }

    fn invalid(&self, slot: &Slot, why: &str) -> Status {
        let field = slot.pointers.first().map(|p| p.trim_start_matches('/').replace('/', ".")).unwrap_or_default();
        let message = match &slot.value {
            Some(v) => format!("Invalid value: \"{v}\": {why}"),
            None => format!("Internal error: {why}"),
        };
        let cause = Cause { reason: "FieldValueInvalid".into(), message, field };
        Status::invalid(&self.def.group, &self.def.kind, &self.name, vec![cause])
    }
}

fn slot_key(slot: &Slot) -> Option<Bytes> {
    slot.value.as_ref().map(|v| key(slot.pool, &slot.class, v))
}

/// Ports are numbers in JSON, addresses texts. A pointer may name the next element of a list.
fn place(obj: &mut Value, slot: &Slot, value: &str) {
    for pointer in &slot.pointers {
        let json = match slot.pool {
            Pool::NodePort => value.parse::<u16>().map_or(Value::Null, Value::from),
            Pool::ServiceAddress => Value::from(value),
        };
        let Some((parent, last)) = pointer.rsplit_once('/') else { continue };
        match obj.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.insert(last.to_owned(), json)),
            Some(Value::Array(list)) => match last.parse::<usize>() {
                Ok(at) if at < list.len() => list[at] = json,
                _ => list.push(json),
            },
            _ => {}
        }
    }
}

/// From the injected ids, so that tests can steer it.
fn random_below(server: &Inner, bound: u32) -> u32 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    server.ids.uid().hash(&mut hasher);
    u32::try_from(hasher.finish() % u64::from(bound.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_give() {
        let r = Ranges::default();
        for pool in [Pool::ServiceAddress, Pool::NodePort] {
            let last = r.size(pool) - 1;
            assert!(r.contains(pool, &r.value(pool, 0)) && r.contains(pool, &r.value(pool, last)));
            assert!(r.reserved(pool) < r.size(pool));
        }
        assert_eq!(r.value(Pool::ServiceAddress, 0), "10.43.0.1");
        assert_eq!(r.value(Pool::NodePort, r.size(Pool::NodePort) - 1), "32767");
        assert!(!r.contains(Pool::ServiceAddress, "10.44.0.1"));
        assert!(!r.contains(Pool::NodePort, "80"));
    }

    #[test]
    fn values_go_where_the_pointers_say() {
        let mut obj = serde_json::json!({"spec": {"ports": [{"port": 1}], "clusterIPs": []}});
        let slot = |pool, pointers: &[&str]| Slot {
            pool,
            class: SmolStr::default(),
            value: None,
            pointers: pointers.iter().map(|p| (*p).to_owned()).collect(),
        };
        place(&mut obj, &slot(Pool::ServiceAddress, &["/spec/clusterIP", "/spec/clusterIPs/0"]), "10.43.1.2");
        place(&mut obj, &slot(Pool::NodePort, &["/spec/ports/0/nodePort"]), "30001");
        let want = serde_json::json!({"spec": {
            "ports": [{"port": 1, "nodePort": 30001}], "clusterIP": "10.43.1.2", "clusterIPs": ["10.43.1.2"]}});
        assert_eq!(obj, want);
    }
}
