//! Which plugins run, and in which order.

use crate::plugin::{Env, Plugin, Request};
use crate::plugins::TABLE;
use crate::plugins::event_rate_limit::EventLimit;
use kybern_api::error::Status;
use serde_json::Value;
use std::sync::Arc;

/// The plugin that does nothing without limits.
const LIMITS_EVENTS: &str = "EventRateLimit";

/// A chain that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A switch names no plugin.
    #[error("there is no admission plugin \"{0}\"")]
    UnknownPlugin(String),
    /// A plugin that is switched on and has no configuration to go by.
    #[error("the admission plugin {0} needs a configuration")]
    NotConfigured(&'static str),
}

/// Plugins to turn on or off against their defaults, by name. Off wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switches {
    /// To turn on.
    pub enable: Vec<String>,
    /// To turn off.
    pub disable: Vec<String>,
    /// Limits of EventRateLimit.
    pub event_limits: Vec<EventLimit>,
}

/// The plugins in their order.
///
/// A request passes [`Chain::mutate`], then (later) webhooks; where those changed the object, `mutate`
/// once more; and on the final object [`Chain::validate`].
pub struct Chain {
    plugins: Vec<Arc<dyn Plugin>>,
}

impl Chain {
    /// The chain with these switches.
    ///
    /// # Errors
    /// At a name that no plugin has.
    pub fn new(switches: &Switches) -> Result<Self, Error> {
        let known: Vec<(Arc<dyn Plugin>, bool)> = TABLE.iter().map(|(make, on)| (make(switches), *on)).collect();
        let named = switches.enable.iter().chain(&switches.disable);
        if let Some(stranger) = named.into_iter().find(|name| !known.iter().any(|(p, _)| p.name() == name.as_str())) {
            return Err(Error::UnknownPlugin(stranger.clone()));
        }
        let has = |list: &[String], plugin: &dyn Plugin| list.iter().any(|name| name == plugin.name());
        let plugins = known
            .into_iter()
            .filter(|(plugin, on)| {
                (*on || has(&switches.enable, plugin.as_ref())) && !has(&switches.disable, plugin.as_ref())
            })
            .map(|(plugin, _)| plugin)
            .collect();
        let chain = Self { plugins };
        if chain.runs(LIMITS_EVENTS) && switches.event_limits.is_empty() {
            return Err(Error::NotConfigured(LIMITS_EVENTS));
        }
        Ok(chain)
    }

    /// The plugins that run, in order, for a caller that walks them itself.
    pub fn plugins(&self) -> &[Arc<dyn Plugin>] {
        &self.plugins
    }

    /// Names of the plugins that run, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.plugins.iter().map(|plugin| plugin.name()).collect()
    }

    /// Does the plugin of this name run?
    pub fn runs(&self, name: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.name() == name)
    }

    /// Lets every plugin change the object.
    ///
    /// # Errors
    /// The first refusal.
    pub fn mutate(&self, req: &Request<'_>, mut obj: Option<&mut Value>, env: &Env<'_>) -> Result<(), Status> {
        self.plugins.iter().try_for_each(|plugin| plugin.mutate(req, obj.as_deref_mut(), env))
    }

    /// Lets every plugin judge the final object.
    ///
    /// # Errors
    /// The first refusal.
    pub fn validate(&self, req: &Request<'_>, obj: Option<&Value>, env: &Env<'_>) -> Result<(), Status> {
        self.plugins.iter().try_for_each(|plugin| plugin.validate(req, obj, env))
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Chain").field(&self.names()).finish()
    }
}
