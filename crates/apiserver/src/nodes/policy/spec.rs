//! A NetworkPolicy's text as rules over address sets.

use kybern_api::meta::selector::Selector;
use kybern_api::object::Object;
use kybern_api::tree;
use kybern_wire::node::{PolicyBlock, PolicyPort, PolicyRule, PolicyRules};
use serde_json::Value;
use sha2::{Digest, Sha256};
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which namespaces a selector of pods looks at.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    One(SmolStr),
    Matching(Selector),
}

/// Pods that fit, by their addresses; with `port` only those that have it, with its number.
#[derive(Debug, Clone)]
pub(super) struct SetDef {
    pub(super) scope: Scope,
    pub(super) pods: Selector,
    pub(super) port: Option<Named>,
}

/// A port by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) protocol: SmolStr,
    pub(super) name: SmolStr,
}

impl SetDef {
    /// Equal for equal definitions, whichever policy makes them.
    fn id(&self) -> String {
        let scope = match &self.scope {
            Scope::One(namespace) => format!("={namespace}"),
            Scope::Matching(selector) => format!("~{selector:?}"),
        };
        let text = format!("{scope}\n{:?}\n{:?}", self.pods, self.port);
        hex::encode(&Sha256::digest(text.as_bytes())[..10])
    }
}

/// A policy that has been read.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) revision: u64,
    pub(super) selector: Selector,
    pub(super) rules: Arc<PolicyRules>,
    pub(super) sets: BTreeMap<String, SetDef>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// What cannot be understood.
    pub(super) fn read(object: &Object) -> Result<Self, String> {
        let tree = object.tree().map_err(|e| e.to_string())?;
        let spec = tree::at(&tree, "spec").ok_or("there is no spec")?;
        let mut reader =
            Reader { namespace: object.head.namespace.clone(), selector: pods(spec)?, sets: BTreeMap::new() };
        let types = tree::list(spec, "policyTypes");
        let applies = |direction: &str| types.iter().any(|t| t == direction);
        let mut rules = PolicyRules {
            name: object.head.key(),
            ingress: applies("Ingress"),
            egress: applies("Egress"),
            ..PolicyRules::default()
        };
        if rules.ingress {
            rules.from = reader.rules(spec, "ingress", "from")?;
        }
        if rules.egress {
            rules.to = reader.rules(spec, "egress", "to")?;
        }
        Ok(Self { revision: object.revision, selector: reader.selector, rules: Arc::new(rules), sets: reader.sets })
    }

    /// What stands for a policy that cannot be understood: nothing comes or goes in its namespace.
    pub(super) fn closed(object: &Object) -> Self {
        let rules = PolicyRules { name: object.head.key(), ingress: true, egress: true, ..PolicyRules::default() };
        Self {
            revision: object.revision,
            selector: Selector::everything(),
            rules: Arc::new(rules),
            sets: BTreeMap::new(),
        }
    }
}

/// An absent selector of pods selects all of them, in a policy as in a peer.
fn pods(holder: &Value) -> Result<Selector, String> {
    match tree::at(holder, "podSelector") {
        None | Some(Value::Null) => Ok(Selector::everything()),
        found => Selector::from_object(found),
    }
}

struct Reader {
    namespace: SmolStr,
    selector: Selector,
    sets: BTreeMap<String, SetDef>,
}

impl Reader {
    fn rules(&mut self, spec: &Value, direction: &str, peers: &str) -> Result<Vec<PolicyRule>, String> {
        let mut out = Vec::new();
        for rule in tree::list(spec, direction) {
            self.rule(rule, peers, &mut out)?;
        }
        Ok(out)
    }

    fn rule(&mut self, rule: &Value, side: &str, out: &mut Vec<PolicyRule>) -> Result<(), String> {
        let mut numbered = PolicyRule { any_port: tree::list(rule, "ports").is_empty(), ..PolicyRule::default() };
        let peers = tree::list(rule, side);
        numbered.anybody = peers.is_empty();
        let mut selected = Vec::new();
        for peer in peers {
            match tree::at(peer, "ipBlock").filter(|b| !b.is_null()) {
                Some(block) => numbered.blocks.push(ip_block(block)),
                None => {
                    let def = self.peer(peer)?;
                    numbered.sets.push(self.set(def.clone()));
                    selected.push(def);
                }
            }
        }
        for port in tree::list(rule, "ports") {
            match named(port) {
                None => numbered.ports.push(numbers(port)),
                // The name is one of the selected pods' own ports.
                Some(port) if side == "from" => {
                    let scope = Scope::One(self.namespace.clone());
                    let own = SetDef { scope, pods: self.selector.clone(), port: Some(port) };
                    numbered.ports.push(self.target(own));
                }
                // The name is a port of each peer: who has it, with its number, is peer and port at once.
                Some(port) => out.extend(self.named_peers(&numbered, &selected, &port)),
            }
        }
        if numbered.any_port || !numbered.ports.is_empty() {
            out.push(numbered);
        }
        Ok(())
    }

    /// None: only address blocks are meant, and those have no names for ports.
    fn named_peers(&mut self, rule: &PolicyRule, selected: &[SetDef], port: &Named) -> Option<PolicyRule> {
        let all = SetDef { scope: Scope::Matching(Selector::everything()), pods: Selector::everything(), port: None };
        let peers = if rule.anybody { std::slice::from_ref(&all) } else { selected };
        let ports: Vec<_> =
            peers.iter().map(|p| self.target(SetDef { port: Some(port.clone()), ..p.clone() })).collect();
        (!ports.is_empty()).then(|| PolicyRule { anybody: true, ports, ..PolicyRule::default() })
    }

    fn peer(&self, peer: &Value) -> Result<SetDef, String> {
        let scope = match tree::at(peer, "namespaceSelector") {
            None | Some(Value::Null) => Scope::One(self.namespace.clone()),
            found => Scope::Matching(Selector::from_object(found)?),
        };
        Ok(SetDef { scope, pods: pods(peer)?, port: None })
    }

    fn set(&mut self, def: SetDef) -> String {
        let id = def.id();
        self.sets.insert(id.clone(), def);
        id
    }

    fn target(&mut self, def: SetDef) -> PolicyPort {
        let protocol = def.port.as_ref().map_or("TCP", |p| p.protocol.as_str()).to_owned();
        PolicyPort { protocol, targets: self.set(def), ..PolicyPort::default() }
    }
}

fn protocol(port: &Value) -> &str {
    match tree::text(port, "protocol") {
        "" => "TCP",
        set => set,
    }
}

fn named(port: &Value) -> Option<Named> {
    let name = tree::text(port, "port");
    (!name.is_empty()).then(|| Named { protocol: protocol(port).into(), name: name.into() })
}

fn numbers(port: &Value) -> PolicyPort {
    let number = |key: &str| tree::int(port, key).and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let first = number("port");
    PolicyPort { protocol: protocol(port).into(), first, last: number("endPort").max(first), targets: String::new() }
}

fn ip_block(block: &Value) -> PolicyBlock {
    let except = tree::list(block, "except").iter().filter_map(|e| e.as_str().map(str::to_owned)).collect();
    PolicyBlock { cidr: tree::text(block, "cidr").into(), except }
}
