//! The built-in signers of the CertificateSigningRequest API: what each will sign, and for whom the
//! cluster approves by itself. Pure.

use super::request::CertificateRequest;
use super::san::San;
use crate::error::{Error, Result};
use jiff::SignedDuration;
use kybern_api::attributes::UserInfo;

/// The shortest lifetime a request may ask for.
pub const MIN_LIFETIME: SignedDuration = SignedDuration::from_secs(600);
/// The lifetime of what a signer signs when the request asks for none, and the longest it may ask for.
pub const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);

/// A built-in signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// `kubernetes.io/kube-apiserver-client`
    ApiserverClient,
    /// `kubernetes.io/kube-apiserver-client-kubelet`
    ApiserverClientKubelet,
    /// `kubernetes.io/kubelet-serving`
    KubeletServing,
    /// `kubernetes.io/legacy-unknown`
    LegacyUnknown,
}

const SIGNERS: [(&str, Signer); 4] = [
    ("kubernetes.io/kube-apiserver-client", Signer::ApiserverClient),
    ("kubernetes.io/kube-apiserver-client-kubelet", Signer::ApiserverClientKubelet),
    ("kubernetes.io/kubelet-serving", Signer::KubeletServing),
    ("kubernetes.io/legacy-unknown", Signer::LegacyUnknown),
];

/// Which of a node's requests the cluster approves by itself, by what the asker may create
/// (`certificatesigningrequests/SUBRESOURCE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeApproval {
    /// A bootstrapping machine asks for a node's first certificate: `nodeclient`.
    NodeClient,
    /// A node renews its own: `selfnodeclient`.
    SelfNodeClient,
}

impl NodeApproval {
    /// The subresource of certificatesigningrequests whose `create` the asker must hold.
    pub fn subresource(self) -> &'static str {
        match self {
            Self::NodeClient => "nodeclient",
            Self::SelfNodeClient => "selfnodeclient",
        }
    }
}

impl Signer {
    /// The signer of this name; None: not one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        SIGNERS.iter().find(|(known, _)| *known == name).map(|(_, signer)| *signer)
    }

    /// Would this signer sign the request?
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason that the request's `Failed` condition shall carry.
    pub fn check(self, request: &CertificateRequest, usages: &[String]) -> Result<()> {
        match self {
            Self::ApiserverClient => {
                check_usages(usages, "client auth", &["client auth", "digital signature", "key encipherment"])
            }
            Self::ApiserverClientKubelet => {
                check_node_subject(request)?;
                if !request.sans.is_empty() {
                    return refuse("a node's client certificate has no subject alternative names");
                }
                check_usages(usages, "client auth", &["client auth", "digital signature", "key encipherment"])
            }
            Self::KubeletServing => {
                check_node_subject(request)?;
                if request.sans.is_empty() || request.sans.iter().any(|s| !matches!(s, San::Dns(_) | San::Ip(_))) {
                    return refuse("a node's serving certificate needs DNS names or IP addresses, and nothing else");
                }
                check_usages(usages, "server auth", &["server auth", "digital signature", "key encipherment"])
            }
            Self::LegacyUnknown => Ok(()),
        }
    }

    /// Does the cluster approve this request by itself, provided that the asker may create the
    /// returned subresource? None: a person has to.
    pub fn approval(self, request: &CertificateRequest, usages: &[String], asker: &UserInfo) -> Option<NodeApproval> {
        if self != Self::ApiserverClientKubelet || self.check(request, usages).is_err() {
            return None;
        }
        if request.common_name() == Some(asker.name.as_str()) {
            return Some(NodeApproval::SelfNodeClient);
        }
        // a node may only ask for itself; whoever is no node yet needs the bootstrap permission
        asker.node_name().is_none().then_some(NodeApproval::NodeClient)
    }
}

/// The lifetime to sign for: what was asked for, between [`MIN_LIFETIME`] and [`MAX_LIFETIME`].
pub fn lifetime(expiration_seconds: Option<i64>) -> SignedDuration {
    expiration_seconds.map_or(MAX_LIFETIME, |s| SignedDuration::from_secs(s).clamp(MIN_LIFETIME, MAX_LIFETIME))
}

fn refuse<T>(why: &str) -> Result<T> {
    Err(Error::Refused(why.to_owned()))
}

fn check_node_subject(request: &CertificateRequest) -> Result<()> {
    if request.organizations != ["system:nodes"] {
        return refuse("the subject's organization must be exactly system:nodes");
    }
    match request.common_name().and_then(|name| name.strip_prefix("system:node:")) {
        Some(node) if !node.is_empty() => Ok(()),
        _ => refuse("the subject's common name must be system:node:NAME"),
    }
}

fn check_usages(usages: &[String], needed: &str, allowed: &[&str]) -> Result<()> {
    if !usages.iter().any(|u| u == needed) {
        return refuse(&format!("usages must include \"{needed}\""));
    }
    match usages.iter().find(|u| !allowed.contains(&u.as_str())) {
        Some(other) => refuse(&format!("usage \"{other}\" is not allowed by this signer")),
        None => Ok(()),
    }
}
