//! Creates, updates and deletes objects of any kind: the rules they share, in one order.
//!
//! Create and update: system metadata, mutating admission, isolation of status and spec, the kind's
//! strategy (prepare, validate), validating admission, managed fields, generation, commit. An update
//! runs again on the freshest object when the guard is lost, unless the client named a revision.

use crate::error::retry_later;
use crate::registry::commit::{Change, Committed, Expect, Proposal, commit};
use crate::registry::gate::Gate;
use crate::registry::kinds::Resource;
use crate::registry::{metadata, metadata_rules, names, quota, service_ips, tracking};
use crate::request::chain::Authorized;
use crate::request::write_options::WriteOptions;
use crate::server::Inner;
use crate::subresource;
use kybern_admission::Operation;
use kybern_api::codec::{self, Encoded};
use kybern_api::error::{Reason, Status};
use kybern_api::kind::Context;
use kybern_api::object::Object;
use kybern_raftstore::model::{Guard, KeyValue, Op};
use kybern_rbac::RoleWrite;
use serde_json::Value;
use std::sync::Arc;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object is new.
    Created,
    /// It was changed, or is as it was.
    Updated,
    /// It is gone: the write took the last finalizer, or deleted it.
    Deleted,
}

/// A write's answer.
#[derive(Debug, Clone)]
pub struct Written {
    /// The object after the write; of a deleted one, its last state.
    pub object: Object,
    /// What became of it.
    pub outcome: Outcome,
}

/// What is stored, as bytes and as a tree.
#[derive(Debug)]
pub struct Stored {
    /// The object.
    pub object: Object,
    /// Its tree, defaults set.
    pub tree: Value,
}

/// A change to an object: from what is stored (None: nothing) to what should be.
pub type ChangeFn<'a> = dyn FnMut(Option<&Stored>) -> Result<Value, Status> + Send + 'a;

/// How often an update runs again on a fresher object.
const RETRIES: usize = 20;

/// One write in progress.
pub struct Engine<'a> {
    /// The server.
    pub server: &'a Inner,
    /// The authorised request.
    pub auth: &'a Authorized,
    /// What is written.
    pub resource: &'a Resource,
    /// The subresource through which, or empty.
    pub subresource: &'a str,
    /// Namespace of the object, or empty.
    pub namespace: &'a str,
    /// Options.
    pub options: &'a WriteOptions,
    /// The options as sent, for admission.
    pub raw_options: &'a Value,
    /// The whole request has passed admission as what the client sent (a Binding, an Eviction).
    pub admitted: bool,
}

impl Engine<'_> {
    /// Creates an object from its tree in the stored version.
    pub async fn create(&self, mut obj: Value) -> Result<Written, Status> {
        let def = self.resource.def();
        metadata::same_namespace(&mut obj, self.namespace)?;
        if !metadata::text(&obj, "resourceVersion").is_empty() {
            return Err(Status::new(Reason::Unknown, "resourceVersion should not be set on objects to be created"));
        }
        let counts = def.strategy.counts_generation(def);
        metadata::begin(&mut obj, self.server.ids.uid(), self.auth.now, counts);
        if def.has_status() && !def.strategy.keeps_status_on_create() {
            kybern_api::tree::remove(&mut obj, "status");
        }
        let origin = names::settle(def, &mut obj, self.server.ids.as_ref())?;
        self.mutate(Operation::Create, &mut obj, None).await?;
        def.strategy.created_by(&mut obj, &self.auth.attributes.user);
        def.strategy.prepare(&self.context(), &mut obj, None);
        self.validate(&obj, None)?;
        self.judge_rights(&obj, None).await?;
        self.judge(Operation::Create, &obj, None).await?;
        self.own_fields(&mut obj, None)?;
        for _ in 0..names::TRIES {
            if let Some(written) = self.propose_new(&mut obj).await? {
                return Ok(written);
            }
            if origin == names::Origin::Given {
                return Err(self.taken(&obj));
            }
            names::generate(&mut obj, self.server.ids.as_ref());
        }
        Err(names::exhausted(def, metadata::text(&obj, "name")))
    }

    /// None: the name is taken.
    async fn propose_new(&self, obj: &mut Value) -> Result<Option<Written>, Status> {
        let name = metadata::text(obj, "name").to_owned();
        let key = self.key(&name);
        if self.options.dry_run && self.server.store.get(&key).is_some() {
            return Ok(None);
        }
        let charges = self.charges(&name, Some(obj), None).await?;
        if self.options.dry_run {
            return Ok(Some(Written { object: self.unstored(obj, None), outcome: Outcome::Created }));
        }
        let claims = service_ips::Claims::of_new(self.server, self.resource.def(), obj)?;
        loop {
            let (guards, ops) = claims.settle(self.server, obj)?;
            let (counters, ops) = with(&charges, &guards, ops);
            let encoded = codec::encode(self.resource.def(), obj);
            let head = encoded.head.clone();
            let proposal = Proposal {
                key: key.clone(),
                expect: Expect::Absent,
                change: Change::Put(Box::new(encoded)),
                guards,
                ops,
                term: self.auth.term,
            };
            match commit(self.server, self.resource, proposal).await? {
                Committed::Done { entry: Some(entry), .. } => {
                    let object = self.object_of(&entry, Arc::new(head))?;
                    return Ok(Some(Written { object, outcome: Outcome::Created }));
                }
                Committed::Done { entry: None, .. } => return Err(Status::internal("the store kept nothing of a put")),
                Committed::Lost(_) => return Ok(None),
                Committed::Refused(index) if index >= counters => {
                    return Err(charges.refused(self.server, index - counters, self.resource.def(), &name));
                }
                Committed::Refused(index) => claims.refused(index)?,
            }
        }
    }

    fn taken(&self, obj: &Value) -> Status {
        let def = self.resource.def();
        let name = metadata::text(obj, "name");
        let mut status = Status::already_exists(&def.group, &def.plural, name);
        if self.server.kinds.resource(&def.group, &def.plural).is_some_and(|k| {
            k.cache
                .get(k.cache.keys().suffix(self.namespace, name).as_bytes())
                .is_some_and(|o| o.head.deleting.is_some())
        }) {
            status.message = format!("object is being deleted: {}", status.message);
        }
        status
    }

    /// Updates one object. `change` is called again on the freshest object when another write came
    /// between; with None it is asked for an object to create, where the kind allows that.
    pub async fn update(&self, name: &str, change: &mut ChangeFn<'_>) -> Result<Written, Status> {
        let mut stored = self.read(name).await?;
        let mut refreshed = false;
        for _ in 0..RETRIES {
            let obj = change(stored.as_ref())?;
            let Some(old) = &stored else { return self.create(obj).await };
            match self.update_once(name, obj, old).await {
                Ok(Step::Done(written)) => return Ok(*written),
                Ok(Step::Lost(current)) => stored = current.map(|e| self.stored(&e)).transpose()?,
                // Another server may just have written the revision that the client names.
                Err(e) if e.reason == Reason::Conflict && !refreshed => {
                    refreshed = true;
                    let seen = old.object.revision;
                    self.server.barrier().await?;
                    let fresh = self.read(name).await?;
                    if fresh.as_ref().is_none_or(|f| f.object.revision == seen) {
                        return Err(e);
                    }
                    stored = fresh;
                }
                Err(e) => return Err(e),
            }
        }
        Err(retry_later())
    }

    async fn update_once(&self, name: &str, mut obj: Value, old: &Stored) -> Result<Step, Status> {
        let def = self.resource.def();
        let pinned = self.check_preconditions(&obj, old)?;
        metadata::same_object(&mut obj, self.namespace, name)?;
        metadata::carry_over(&mut obj, &old.tree);
        subresource::isolate(def, self.subresource, &mut obj, &old.tree);
        self.mutate(Operation::Update, &mut obj, Some(&old.tree)).await?;
        metadata::carry_over(&mut obj, &old.tree);
        def.strategy.prepare(&self.context(), &mut obj, Some(&old.tree));
        self.validate(&obj, Some(&old.tree))?;
        self.judge_rights(&obj, Some(&old.tree)).await?;
        self.judge(Operation::Update, &obj, Some(&old.tree)).await?;
        if def.strategy.counts_generation(def) && def.strategy.desired_changed(&obj, &old.tree) {
            let generation = metadata::number(&old.tree, "generation").unwrap_or_default() + 1;
            metadata::of_mut(&mut obj).insert("generation".into(), generation.into());
        }
        self.own_fields(&mut obj, Some(&old.tree))?;
        if tracking::same(&obj, &old.tree) {
            return Ok(Step::done(old.object.clone(), Outcome::Updated));
        }
        if self.ends(&obj) {
            return self.remove(obj, old).await;
        }
        self.put(obj, old, pinned).await
    }

    /// Did this write take away the last thing that held back a deletion?
    fn ends(&self, obj: &Value) -> bool {
        metadata::deleting(obj)
            && metadata::finalizers(obj).is_empty()
            && metadata::number(obj, "deletionGracePeriodSeconds").unwrap_or_default() == 0
            && !self.resource.def().strategy.holds_deletion(obj)
    }

    /// Proposes a new state of a stored object. `pinned`: losing the guard is the client's conflict.
    pub(crate) async fn put(&self, mut obj: Value, old: &Stored, pinned: bool) -> Result<Step, Status> {
        let charges = self.charges(&old.object.head.name, Some(&obj), Some(&old.tree)).await?;
        if self.options.dry_run {
            return Ok(Step::done(self.unstored(&obj, Some(old)), Outcome::Updated));
        }
        let claims = service_ips::Claims::of_update(self.server, self.resource.def(), &obj, &old.tree)?;
        loop {
            let (guards, ops) = claims.settle(self.server, &mut obj)?;
            let (counters, ops) = with(&charges, &guards, ops);
            let encoded = codec::encode(self.resource.def(), &obj);
            let head = Arc::new(encoded.head.clone());
            match self.propose(old, Change::Put(Box::new(encoded)), guards, ops).await? {
                Committed::Done { entry: Some(entry), .. } => {
                    return Ok(Step::done(self.object_of(&entry, head)?, Outcome::Updated));
                }
                Committed::Done { entry: None, .. } => return Err(Status::internal("the store kept nothing of a put")),
                Committed::Lost(_) if pinned => return Err(self.modified(old)),
                Committed::Lost(current) => return Ok(Step::Lost(current)),
                Committed::Refused(index) if index >= counters => {
                    let name = &old.object.head.name;
                    return Err(charges.refused(self.server, index - counters, self.resource.def(), name));
                }
                Committed::Refused(index) => claims.refused(index)?,
            }
        }
    }

    /// Proposes the end of a stored object, whose last state is `obj`.
    pub(super) async fn remove(&self, obj: Value, old: &Stored) -> Result<Step, Status> {
        if self.options.dry_run {
            return Ok(Step::done(self.unstored(&obj, Some(old)), Outcome::Deleted));
        }
        let mut ops = service_ips::Claims::release(self.server, self.resource.def(), &old.tree);
        ops.extend(quota::Charges::of(self.server, self.place(), None, Some(&old.tree))?.ops());
        match self.propose(old, Change::Delete, Vec::new(), ops).await? {
            Committed::Done { revision, .. } => {
                let encoded = codec::encode(self.resource.def(), &obj);
                let bytes = codec::stamp(&encoded, revision);
                let object = Object { head: Arc::new(encoded.head), revision, bytes };
                Ok(Step::done(object, Outcome::Deleted))
            }
            Committed::Lost(current) => Ok(Step::Lost(current)),
            Committed::Refused(_) => Err(retry_later()),
        }
    }

    fn place(&self) -> (&kybern_api::kind::KindDef, &str) {
        (self.resource.def(), self.namespace)
    }

    /// What a write takes from the quotas. Where there is no room, another server may just have made some.
    async fn charges(&self, name: &str, new: Option<&Value>, old: Option<&Value>) -> Result<quota::Charges, Status> {
        let charge = || quota::Charges::of(self.server, self.place(), new, old);
        let charges = charge()?;
        if charges.check(self.server, self.resource.def(), name).is_ok() {
            return Ok(charges);
        }
        self.server.barrier().await?;
        let charges = charge()?;
        charges.check(self.server, self.resource.def(), name)?;
        Ok(charges)
    }

    async fn propose(
        &self,
        old: &Stored,
        change: Change,
        guards: Vec<Guard>,
        ops: Vec<Op>,
    ) -> Result<Committed, Status> {
        let key = self.key(&old.object.head.name);
        let expect = Expect::Revision(old.object.revision);
        commit(self.server, self.resource, Proposal { key, expect, change, guards, ops, term: self.auth.term }).await
    }

    /// Checks the uid and revision a body names; true when it names a revision.
    fn check_preconditions(&self, obj: &Value, old: &Stored) -> Result<bool, Status> {
        let def = self.resource.def();
        let uid = metadata::text(obj, "uid");
        if !uid.is_empty() && uid != old.object.head.uid {
            let why =
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", old.object.head.uid);
            return Err(Status::conflict(&def.group, &def.plural, &old.object.head.name, &why));
        }
        let revision = metadata::text(obj, "resourceVersion");
        if revision.is_empty() || revision == "0" {
            return Ok(false);
        }
        if crate::request::query::revision(revision)? != old.object.revision {
            return Err(self.modified(old));
        }
        Ok(true)
    }

    fn modified(&self, old: &Stored) -> Status {
        let def = self.resource.def();
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(&def.group, &def.plural, &old.object.head.name, why)
    }

    /// The way of this write through admission; None when the whole request has passed already.
    pub(super) fn gate(&self) -> Option<Gate<'_>> {
        (!self.admitted).then(|| Gate {
            server: self.server,
            auth: self.auth,
            def: self.resource.def(),
            subresource: self.subresource,
            namespace: self.namespace,
            dry_run: self.options.dry_run,
            options: self.raw_options,
        })
    }

    async fn mutate(&self, operation: Operation, obj: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        let Some(gate) = self.gate() else { return Ok(()) };
        let name = metadata::text(obj, "name").to_owned();
        gate.mutate(operation, &name, Some(obj), old).await
    }

    async fn judge(&self, operation: Operation, obj: &Value, old: Option<&Value>) -> Result<(), Status> {
        let Some(gate) = self.gate() else { return Ok(()) };
        gate.validate(operation, metadata::text(obj, "name"), Some(obj), old).await
    }

    /// Nobody hands out rights that are not their own.
    async fn judge_rights(&self, obj: &Value, old: Option<&Value>) -> Result<(), Status> {
        let def = self.resource.def();
        let name = metadata::text(obj, "name");
        let write = RoleWrite {
            user: &self.auth.attributes.user,
            group: &def.group,
            resource: &def.plural,
            namespace: self.namespace,
            name,
            new: obj,
            old,
        };
        let ask = || self.server.authorizer.review_write(&write, self.server.kinds.as_ref());
        if ask().is_ok() {
            return Ok(());
        }
        self.server.barrier().await?;
        ask().map_err(|why| Status::forbidden(&def.group, &def.plural, name, &why))
    }

    fn validate(&self, obj: &Value, old: Option<&Value>) -> Result<(), Status> {
        let def = self.resource.def();
        let context = self.context();
        let mut causes = Vec::new();
        metadata_rules::check(def, obj, old, &mut causes);
        def.strategy.validate(&context, obj, old, &mut causes);
        if !causes.is_empty() {
            return Err(Status::invalid(&def.group, &def.kind, metadata::text(obj, "name"), causes));
        }
        self.auth.warn(def.strategy.warnings(&context, obj, old));
        Ok(())
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context { def: self.resource.def(), subresource: self.subresource, now: self.auth.now }
    }

    /// Records who wrote what; an apply has recorded it already.
    fn own_fields(&self, obj: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        if self.options.applied {
            return Ok(());
        }
        tracking::track(self.resource, (&self.options.manager, self.subresource, self.auth.now), obj, old)
    }

    pub(super) fn key(&self, name: &str) -> bytes::Bytes {
        self.resource.kind.cache.keys().object(self.namespace, name)
    }

    /// What is stored; looked for again after a read barrier before it counts as absent.
    pub async fn read(&self, name: &str) -> Result<Option<Stored>, Status> {
        let key = self.key(name);
        let mut entry = self.server.store.get(&key);
        if entry.is_none() {
            self.server.barrier().await?;
            entry = self.server.store.get(&key);
        }
        entry.map(|e| self.stored(&e)).transpose()
    }

    /// What is stored, or 404.
    pub async fn read_existing(&self, name: &str) -> Result<Stored, Status> {
        let def = self.resource.def();
        self.read(name).await?.ok_or_else(|| Status::not_found(&def.group, &def.plural, name))
    }

    pub(super) fn stored(&self, entry: &KeyValue) -> Result<Stored, Status> {
        let object = crate::verbs::get::open(self.resource, entry)?;
        let tree = codec::decode_stored(&object.bytes, self.resource.def())?;
        Ok(Stored { object, tree })
    }

    fn object_of(&self, entry: &KeyValue, head: Arc<kybern_api::object::Head>) -> Result<Object, Status> {
        let bytes = self.resource.kind.opener.bytes(entry).map_err(Status::internal)?;
        Ok(Object { head, revision: entry.mod_revision, bytes })
    }

    /// An object as a dry run answers with: what is stored keeps its revision, a new one has none.
    fn unstored(&self, obj: &Value, old: Option<&Stored>) -> Object {
        let encoded: Encoded = codec::encode(self.resource.def(), obj);
        let revision = old.map_or(0, |o| o.object.revision);
        let bytes = match old {
            Some(_) => codec::stamp(&encoded, revision),
            None => crate::registry::seal::unstamped(&encoded.bytes),
        };
        Object { head: Arc::new(encoded.head), revision, bytes }
    }
}

/// The claims' operations with those of the charges behind them, and where a refusal's index begins to
/// mean a charge: behind the guards, the object itself and the claims.
fn with(charges: &quota::Charges, guards: &[Guard], mut ops: Vec<Op>) -> (usize, Vec<Op>) {
    let counters = guards.len() + 1 + ops.len();
    ops.extend(charges.ops());
    (counters, ops)
}

/// The result of one try.
pub(crate) enum Step {
    /// It is done.
    Done(Box<Written>),
    /// Another write came between: what is stored now.
    Lost(Option<KeyValue>),
}

impl Step {
    pub(super) fn done(object: Object, outcome: Outcome) -> Self {
        Self::Done(Box::new(Written { object, outcome }))
    }
}
