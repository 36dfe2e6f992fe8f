//! A world of objects, and one way to send a request through the chain.

use kybern_admission::{Chain, Env, Operation, Request, Switches};
use kybern_api::attributes::{Attributes, UserInfo};
use kybern_api::error::Status;
use kybern_api::object::{Head, Object};
use kybern_api::seam::{Ids, Lister};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

type Key = (String, String, String, String);

/// Objects by group, resource, namespace and name.
#[derive(Default)]
pub struct World(BTreeMap<Key, Object>);

impl World {
    /// Namespaces `ns`, `kube-system` and `default`, a dying one, and default service accounts.
    pub fn new() -> Self {
        let mut world = Self::default();
        for namespace in ["ns", "kube-system", "default"] {
            world.put("", "namespaces", "", namespace, json!({}));
            world.put("", "serviceaccounts", namespace, "default", json!({}));
        }
        world.put("", "namespaces", "", "dying", json!({ "metadata": { "deletionTimestamp": "x" } }));
        world
    }
    /// Adds an object.
    pub fn put(&mut self, group: &str, resource: &str, namespace: &str, name: &str, body: Value) {
        let uid = body.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().into();
        let deleting = body.pointer("/metadata/deletionTimestamp").map(|_| 1);
        let head = Head { name: name.into(), namespace: namespace.into(), uid, deleting, ..Head::default() };
        let object = Object { head: Arc::new(head), revision: 1, bytes: body.to_string().into() };
        self.0.insert((group.into(), resource.into(), namespace.into(), name.into()), object);
    }
}

impl Lister for World {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        self.0.get(&(group.into(), resource.into(), namespace.into(), name.into())).cloned()
    }
    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Object> {
        let wanted = |k: &Key| k.0 == group && k.1 == resource && namespace.is_none_or(|n| n == k.2);
        self.0.iter().filter(|(k, _)| wanted(k)).map(|(_, o)| o.clone()).collect()
    }
    fn changed_at(&self, _group: &str, _resource: &str) -> u64 {
        0
    }
}

struct FixedIds;

impl Ids for FixedIds {
    fn uid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".into()
    }
    fn suffix(&self) -> String {
        "bcdfg".into()
    }
}

/// A request to be sent: by `jane`, to create, in `ns`, unless set otherwise.
pub struct Call<'a> {
    pub user: &'a str,
    pub operation: Operation,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub old: Option<Value>,
    /// `VERB NAME` pairs that the authoriser allows on signers.
    pub may: &'a [&'a str],
    /// What the client was told besides.
    pub warned: Mutex<Vec<String>>,
}

impl Default for Call<'_> {
    fn default() -> Self {
        Self {
            user: "jane",
            operation: Operation::Create,
            group: "",
            resource: "pods",
            subresource: "",
            namespace: "ns",
            name: "x",
            old: None,
            may: &[],
            warned: Mutex::default(),
        }
    }
}

impl Call<'_> {
    /// Sends it through the default chain, twice over the mutation: what comes out would be stored.
    pub fn send(&self, world: &World, object: Value) -> Result<Value, Status> {
        self.send_through(&Switches::default(), world, object)
    }

    /// The same through a chain with these switches.
    pub fn send_through(&self, switches: &Switches, world: &World, object: Value) -> Result<Value, Status> {
        self.send_by(&Chain::new(switches).expect("a chain"), world, object)
    }

    /// The same through this chain, which may remember the one before.
    pub fn send_by(&self, chain: &Chain, world: &World, object: Value) -> Result<Value, Status> {
        let mut object = object;
        let deletes = self.operation == Operation::Delete;
        self.with(chain, world, |chain, request, env| {
            chain.mutate(request, (!deletes).then_some(&mut object), env)?;
            let once = object.clone();
            chain.mutate(request, (!deletes).then_some(&mut object), env)?;
            assert_eq!(object, once, "mutation is idempotent");
            chain.validate(request, (!deletes).then_some(&object), env)
        })?;
        Ok(object)
    }

    fn with<T>(&self, chain: &Chain, world: &World, act: impl FnOnce(&Chain, &Request<'_>, &Env<'_>) -> T) -> T {
        let mut words = self.user.split(',');
        let user = UserInfo {
            name: words.next().unwrap_or_default().into(),
            groups: words.map(str::to_owned).collect(),
            ..UserInfo::default()
        };
        let may = |asked: &Attributes| self.may.contains(&format!("{} {}", asked.verb, asked.name).as_str());
        let warn = |text| self.warned.lock().expect("warnings").push(text);
        let now = jiff::Timestamp::UNIX_EPOCH;
        let env = Env { objects: world, ids: &FixedIds, may: &may, warn: &warn, now };
        let request = Request {
            user: &user,
            operation: self.operation,
            def: kybern_api::kinds::find(self.group, self.resource).expect("a kind"),
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            old: self.old.as_ref(),
            dry_run: false,
            options: &Value::Null,
        };
        act(chain, &request, &env)
    }
}
