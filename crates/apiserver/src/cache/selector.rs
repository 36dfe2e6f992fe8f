//! What a list or watch selects, evaluated on heads alone.

use crate::cache::window::Change;
use kybern_api::error::Status;
use kybern_api::kind::KindDef;
use kybern_api::meta::selector::{FieldSelector, Selector as LabelSelector};
use kybern_api::object::{EventType, Head};

/// A label and a field selector; None selects everything.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    labels: Option<LabelSelector>,
    fields: Option<FieldSelector>,
}

impl Selector {
    /// Reads the two parameters of a request.
    ///
    /// # Errors
    /// 400, with the parser's text.
    pub fn parse(def: &KindDef, labels: &str, fields: &str) -> Result<Self, Status> {
        let labels = match labels {
            "" => None,
            text => Some(LabelSelector::parse(text).map_err(Status::bad_request)?).filter(|s| !s.is_everything()),
        };
        let fields = match fields {
            "" => None,
            text => Some(FieldSelector::parse(def, text).map_err(Status::bad_request)?).filter(|s| !s.is_everything()),
        };
        Ok(Self { labels, fields })
    }

    /// Does it select everything?
    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_none()
    }

    /// The only name that can match, if the field selector pins one.
    pub fn name(&self) -> Option<&str> {
        self.fields.as_ref()?.name()
    }

    /// Does an object match?
    pub fn matches(&self, head: &Head) -> bool {
        self.labels.as_ref().is_none_or(|s| s.matches(head)) && self.fields.as_ref().is_none_or(|s| s.matches(head))
    }

    /// How a change looks through this selector: an object that begins to match is added, one that
    /// stops is deleted. None: it never matched.
    pub fn judge(&self, change: &Change) -> Option<EventType> {
        let matched = change.previous.as_ref().is_some_and(|o| self.matches(&o.head));
        let matches = change.current.as_ref().is_some_and(|o| self.matches(&o.head));
        match (matched, matches) {
            (false, false) => None,
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
        }
    }
}
