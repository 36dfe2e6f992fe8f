//! What a pod references, read from a narrow view of it.

use super::Referenced;
use serde::Deserialize;

/// The references of a pod; everything else in it is skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodView {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    annotations: Option<Annotations>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    service_account_name: String,
    image_pull_secrets: Vec<Named>,
    volumes: Vec<Volume>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Volume {
    name: String,
    secret: Option<SecretName>,
    config_map: Option<Named>,
    projected: Option<Projected>,
    persistent_volume_claim: Option<ClaimName>,
    ephemeral: Option<Empty>,
    csi: Option<Csi>,
    azure_file: Option<SecretName>,
    cephfs: Option<WithSecret>,
    flex_volume: Option<WithSecret>,
    iscsi: Option<WithSecret>,
    rbd: Option<WithSecret>,
    scale_io: Option<WithSecret>,
    storageos: Option<WithSecret>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SecretName {
    secret_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClaimName {
    claim_name: String,
}

#[derive(Debug, Default, Deserialize)]
struct Empty {}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Csi {
    node_publish_secret_ref: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WithSecret {
    secret_ref: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Vec<Source>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Source {
    secret: Option<Named>,
    config_map: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    env: Vec<Env>,
    env_from: Vec<EnvFrom>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Env {
    value_from: Option<ValueFrom>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ValueFrom {
    secret_key_ref: Option<Named>,
    config_map_key_ref: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EnvFrom {
    secret_ref: Option<Named>,
    config_map_ref: Option<Named>,
}

fn is(reference: Option<&Named>, name: &str) -> bool {
    reference.is_some_and(|r| r.name == name)
}

impl PodView {
    /// The node it is bound to; empty before.
    pub(super) fn node(&self) -> &str {
        &self.spec.node_name
    }

    /// Does it reference the object of this kind and name in its namespace? A mirror pod references
    /// nothing: its node made it.
    pub(super) fn references(&self, kind: Referenced, name: &str) -> bool {
        if self.metadata.annotations.as_ref().is_some_and(|a| a.mirror.is_some()) {
            return false;
        }
        match kind {
            Referenced::ServiceAccount => self.spec.service_account_name == name,
            Referenced::Claim => self.spec.volumes.iter().any(|v| v.claim(&self.metadata.name, name)),
            Referenced::Secret => {
                self.spec.image_pull_secrets.iter().any(|s| s.name == name)
                    || self.spec.volumes.iter().any(|v| v.secret(name))
                    || self.containers().any(|c| c.secret(name))
            }
            Referenced::ConfigMap => {
                self.spec.volumes.iter().any(|v| v.config_map(name)) || self.containers().any(|c| c.config_map(name))
            }
        }
    }

    fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = &self.spec;
        spec.containers.iter().chain(&spec.init_containers).chain(&spec.ephemeral_containers)
    }
}

impl Volume {
    fn secret(&self, name: &str) -> bool {
        let by_name = [&self.secret, &self.azure_file].into_iter().flatten().any(|s| s.secret_name == name);
        let drivers = [&self.cephfs, &self.flex_volume, &self.iscsi, &self.rbd, &self.scale_io, &self.storageos];
        by_name
            || drivers.into_iter().flatten().any(|d| is(d.secret_ref.as_ref(), name))
            || self.csi.as_ref().is_some_and(|c| is(c.node_publish_secret_ref.as_ref(), name))
            || self.sources().any(|s| is(s.secret.as_ref(), name))
    }

    fn config_map(&self, name: &str) -> bool {
        is(self.config_map.as_ref(), name) || self.sources().any(|s| is(s.config_map.as_ref(), name))
    }

    /// A claim it names, or the one made for its ephemeral volume.
    fn claim(&self, pod: &str, name: &str) -> bool {
        self.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == name)
            || (self.ephemeral.is_some()
                && name.strip_prefix(pod).and_then(|n| n.strip_prefix('-')) == Some(&self.name))
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        self.projected.iter().flat_map(|p| &p.sources)
    }
}

impl Container {
    fn secret(&self, name: &str) -> bool {
        self.values().any(|v| is(v.secret_key_ref.as_ref(), name))
            || self.env_from.iter().any(|f| is(f.secret_ref.as_ref(), name))
    }

    fn config_map(&self, name: &str) -> bool {
        self.values().any(|v| is(v.config_map_key_ref.as_ref(), name))
            || self.env_from.iter().any(|f| is(f.config_map_ref.as_ref(), name))
    }

    fn values(&self) -> impl Iterator<Item = &ValueFrom> {
        self.env.iter().filter_map(|e| e.value_from.as_ref())
    }
}
