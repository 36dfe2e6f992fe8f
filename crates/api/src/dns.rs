//! The cluster's DNS, as its parts have to agree on it.

/// Namespace and name of the config map with stub domains and hosts, as k3s' users know it.
pub const CUSTOM: (&str, &str) = ("kube-system", "coredns-custom");
