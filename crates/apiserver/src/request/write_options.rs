//! The parameters that writes share, and DeleteOptions.

use crate::request::query::{Query, invalid_option, unsupported_option};
use kybern_api::codec::FieldValidation;
use kybern_api::error::Status;
use serde_json::Value;

/// Options of create, update and patch.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Answer as usual, store nothing.
    pub dry_run: bool,
    /// Unknown fields.
    pub validation: FieldValidation,
    /// The name that owns the fields written.
    pub manager: String,
    /// Was the manager named by a parameter?
    pub manager_given: bool,
    /// Take fields over from other managers (apply only).
    pub force: Option<bool>,
    /// Field ownership is settled already, by a server-side apply.
    pub applied: bool,
}

const MANAGER_MAX: usize = 128;

impl WriteOptions {
    /// Reads and checks the parameters. `kind` is the options' kind for the texts.
    ///
    /// # Errors
    /// 422 for a value outside its set.
    pub fn parse(query: &Query, agent: &str, kind: &str) -> Result<Self, Status> {
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(v) => return Err(unsupported_option(kind, "fieldValidation", v, &["Ignore", "Strict", "Warn"])),
        };
        let given = query.get("fieldManager");
        if let Some(m) = given {
            check_manager(m, kind)?;
        }
        let manager = given.map_or_else(|| manager_of(agent), str::to_owned);
        Ok(Self {
            dry_run: dry_run(query.all("dryRun"), kind)?,
            validation,
            manager,
            manager_given: given.is_some(),
            force: query.maybe_flag("force"),
            applied: false,
        })
    }
}

fn check_manager(manager: &str, kind: &str) -> Result<(), Status> {
    let wrong = |message: String| Err(invalid_option(kind, "fieldManager", "FieldValueInvalid", message));
    if manager.len() > MANAGER_MAX {
        return wrong(format!("Invalid value: \"{manager}\": may not be more than {MANAGER_MAX} bytes"));
    }
    if manager.chars().any(char::is_control) {
        return wrong(format!("Invalid value: {manager:?}: should only contain printable characters"));
    }
    Ok(())
}

/// The part of a User-Agent before the first slash.
fn manager_of(agent: &str) -> String {
    let name = agent.split('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(MANAGER_MAX).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &str) -> Result<bool, Status> {
    let mut dry = false;
    for value in values.filter(|v| !v.is_empty()) {
        if value != "All" {
            return Err(unsupported_option(kind, "dryRun", value, &["All"]));
        }
        dry = true;
    }
    Ok(dry)
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Seconds the object may take to end; None: as the object says.
    pub grace: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    pub policy: Option<String>,
    /// The uid it must have.
    pub uid: Option<String>,
    /// The revision it must have.
    pub revision: Option<String>,
    /// Answer as usual, store nothing.
    pub dry_run: bool,
    /// The options as sent, for admission.
    pub raw: Value,
}

const DELETE_OPTIONS: &str = "DeleteOptions";

impl DeleteOptions {
    /// Reads DeleteOptions from the body or, when there is none, from the parameters.
    ///
    /// # Errors
    /// 400 for a body that is none, 422 for a value outside its set.
    pub fn parse(query: &Query, body: Option<Value>) -> Result<Self, Status> {
        let mut o = match body {
            Some(v) if !v.is_null() => Self::from_body(v)?,
            _ => Self::from_query(query)?,
        };
        o.dry_run |= dry_run(query.all("dryRun"), DELETE_OPTIONS)?;
        Ok(o)
    }

    fn from_body(body: Value) -> Result<Self, Status> {
        let kind = body["kind"].as_str().unwrap_or(DELETE_OPTIONS);
        if kind != DELETE_OPTIONS || !body.is_object() {
            return Err(Status::bad_request(format!("{kind} cannot be handled as a {DELETE_OPTIONS}")));
        }
        let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
        let dry = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let policy = policy(text(&body["propagationPolicy"]), body["orphanDependents"].as_bool())?;
        Ok(Self {
            grace: body["gracePeriodSeconds"].as_i64(),
            policy,
            uid: text(&body["preconditions"]["uid"]),
            revision: text(&body["preconditions"]["resourceVersion"]),
            dry_run: dry_run(dry, DELETE_OPTIONS)?,
            raw: body,
        })
    }

    fn from_query(query: &Query) -> Result<Self, Status> {
        Ok(Self {
            grace: query.integer("gracePeriodSeconds")?,
            policy: policy(query.get("propagationPolicy").map(str::to_owned), query.maybe_flag("orphanDependents"))?,
            ..Self::default()
        })
    }
}

fn policy(policy: Option<String>, orphan: Option<bool>) -> Result<Option<String>, Status> {
    match (policy, orphan) {
        (Some(_), Some(_)) => Err(invalid_option(
            DELETE_OPTIONS,
            "propagationPolicy",
            "FieldValueInvalid",
            "Invalid value: orphanDependents and propagationPolicy cannot both be set".into(),
        )),
        (None, Some(true)) => Ok(Some("Orphan".into())),
        (None, Some(false)) => Ok(Some("Background".into())),
        (p, None) => Ok(p),
    }
}
