//! Which admission plugins run, and what they go by.

use anyhow::{Context, Result, anyhow, bail};
use kybern_admission::{Chain, Switches, event_limits};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// Kubernetes' file: a configuration for each plugin that takes one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AdmissionConfiguration {
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<PluginConfiguration>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PluginConfiguration {
    name: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Value,
}

pub(super) fn switches(enable: Vec<String>, disable: Vec<String>, control: Option<&Path>) -> Result<Switches> {
    let mut switches = Switches { enable, disable, ..Switches::default() };
    if let Some(path) = control {
        configure(&mut switches, path)
            .with_context(|| format!("--admission-control-config-file {}", path.display()))?;
    }
    // A chain that cannot be built should show now.
    Chain::new(&switches).context("--enable-admission-plugins, --disable-admission-plugins")?;
    Ok(switches)
}

fn configure(switches: &mut Switches, path: &Path) -> Result<()> {
    let config: AdmissionConfiguration = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
    if config.api_version != "apiserver.config.k8s.io/v1" || config.kind != "AdmissionConfiguration" {
        bail!("must be AdmissionConfiguration of apiserver.config.k8s.io/v1");
    }
    for plugin in config.plugins {
        let configuration = match plugin.path.as_str() {
            "" => plugin.configuration,
            // As the file says it: relative to that file.
            named => {
                let named = path.parent().unwrap_or(Path::new(".")).join(named);
                let text = std::fs::read_to_string(&named).with_context(|| named.display().to_string())?;
                serde_saphyr::from_str(&text).with_context(|| named.display().to_string())?
            }
        };
        match plugin.name.as_str() {
            "EventRateLimit" => {
                switches.event_limits =
                    event_limits(&configuration).map_err(|why| anyhow!("plugin EventRateLimit: {why}"))?;
            }
            other => bail!("plugin {other}: takes no configuration"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_switched_and_configured() {
        let dir = tempfile::tempdir().unwrap();
        let (file, own) = (dir.path().join("control"), dir.path().join("events"));
        let list = |name: &str| vec![name.to_owned()];
        let said = |enable: &str, control: Option<&Path>| {
            format!("{:#}", switches(list(enable), Vec::new(), control).unwrap_err())
        };
        assert!(said("Nonsense", None).contains("no admission plugin \"Nonsense\""));
        assert!(said("EventRateLimit", None).contains("needs a configuration"));
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";
        let limits = "{ apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limits: [{ type: Server, qps: 5, burst: 9 }] }";
        std::fs::write(&file, format!("{head}- name: EventRateLimit\n  configuration: {limits}\n")).unwrap();
        let found = switches(list("EventRateLimit"), list("Priority"), Some(&file)).unwrap();
        assert_eq!((found.event_limits.len(), found.disable), (1, list("Priority")));
        std::fs::write(&own, limits).unwrap();
        std::fs::write(&file, format!("{head}- {{ name: EventRateLimit, path: events }}\n")).unwrap();
        assert_eq!(switches(list("EventRateLimit"), Vec::new(), Some(&file)).unwrap().event_limits.len(), 1);
        std::fs::write(&file, format!("{head}- {{ name: Priority }}\n")).unwrap();
        assert!(said("EventRateLimit", Some(&file)).contains("plugin Priority: takes no configuration"));
        std::fs::write(&file, "kind: Pod\n").unwrap();
        assert!(said("EventRateLimit", Some(&file)).contains("--admission-control-config-file"));
    }
}
