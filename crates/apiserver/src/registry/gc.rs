//! Deletion: at once, with grace, or waiting for finalizers and dependents.

use crate::error::retry_later;
use crate::registry::engine::{Engine, Outcome, Step, Stored, Written};
use crate::registry::metadata;
use crate::request::write_options::DeleteOptions;
use kybern_admission::Operation;
use kybern_api::error::Status;

/// How often a deletion runs again on a fresher object.
const RETRIES: usize = 20;

/// What a deletion does to the object as it is now.
enum Plan {
    /// Nothing: it is on its way already.
    Leave,
    /// It stays for a while, marked.
    Mark(serde_json::Value),
    /// It goes.
    Remove,
}

impl Engine<'_> {
    /// Deletes one object, or begins to.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<Written, Status> {
        let def = self.resource.def();
        let mut stored = self.read_existing(name).await?;
        for _ in 0..RETRIES {
            // On each fresher object anew: it may be another one of the same name.
            if let Some(gate) = self.gate() {
                gate.pass(Operation::Delete, name, None, Some(&stored.tree)).await?;
            }
            self.check_delete_preconditions(&stored, options)?;
            def.strategy.check_delete(&stored.tree)?;
            let step = match self.plan(&stored, options)? {
                Plan::Leave => Step::done(stored.object.clone(), Outcome::Updated),
                Plan::Mark(obj) => self.put(obj, &stored, false).await?,
                Plan::Remove => self.remove(stored.tree.clone(), &stored).await?,
            };
            match step {
                Step::Done(written) => return Ok(*written),
                Step::Lost(Some(entry)) => stored = self.stored(&entry)?,
                Step::Lost(None) => return Err(Status::not_found(&def.group, &def.plural, name)),
            }
        }
        Err(retry_later())
    }

    fn plan(&self, stored: &Stored, options: &DeleteOptions) -> Result<Plan, Status> {
        let strategy = self.resource.def().strategy;
        let mut obj = stored.tree.clone();
        let decided = metadata::finalizers(&obj).iter().any(|f| *f == metadata::FOREGROUND || *f == metadata::ORPHAN);
        let policy = options.policy.as_deref().or_else(|| strategy.default_propagation().filter(|_| !decided));
        if let Some(finalizers) = metadata::finalizers_for(policy, &obj)? {
            metadata::set_finalizers(&mut obj, finalizers);
        }
        // A negative grace counts as the shortest there is.
        let requested = options.grace.map(|g| if g < 0 { 1 } else { g });
        let grace = strategy.grace(&obj, requested).unwrap_or(0);
        let waits = !metadata::finalizers(&obj).is_empty() || strategy.holds_deletion(&obj);
        if grace == 0 && !waits {
            return Ok(Plan::Remove);
        }
        let deleting = metadata::deleting(&obj);
        let remaining = metadata::number(&obj, "deletionGracePeriodSeconds").unwrap_or(0);
        if deleting && grace >= remaining {
            return Ok(if obj == stored.tree { Plan::Leave } else { Plan::Mark(obj) });
        }
        let counts = strategy.counts_generation(self.resource.def()) && !deleting;
        metadata::mark_deleting(&mut obj, self.auth.now, grace, counts);
        if !deleting {
            strategy.begin_deletion(&mut obj);
        }
        Ok(Plan::Mark(obj))
    }

    /// Checks the uid and revision a deletion insists on.
    ///
    /// # Errors
    /// 409 when the object is another one, or at another revision.
    pub(crate) fn check_delete_preconditions(&self, stored: &Stored, options: &DeleteOptions) -> Result<(), Status> {
        let def = self.resource.def();
        let head = &stored.object.head;
        let failed = |what: &str, long: &str, want: &str, have: &str| {
            let why = format!("Precondition failed: {what} in precondition: {want}, {long} in object meta: {have}");
            Err(Status::conflict(&def.group, &def.plural, &head.name, &why))
        };
        if let Some(uid) = options.uid.as_deref().filter(|u| *u != head.uid) {
            return failed("UID", "UID", uid, &head.uid);
        }
        let have = stored.object.revision.to_string();
        match options.revision.as_deref().filter(|r| *r != have) {
            Some(want) => failed("ResourceVersion", "ResourceVersion", want, &have),
            None => Ok(()),
        }
    }
}
