//! Kernel settings that pods' traffic needs, in the agent's own network namespace.

use std::path::Path;

/// Path below /proc/sys, and the value.
const SETTINGS: [(&str, &str); 4] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
    // Loose: answers may leave by another interface than requests came in.
    ("net/ipv4/conf/all/rp_filter", "2"),
    ("net/ipv4/conf/default/rp_filter", "2"),
];

/// Those that are not as they should be.
pub(crate) fn unmet() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.into_iter().filter(|(name, value)| {
        let set = std::fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
        // No filter of sources at all would do too.
        set.trim() != *value && !(name.ends_with("rp_filter") && set.trim() == "0")
    })
}

/// Sets them. One that does not exist (bridge filtering not loaded) is left out; one that cannot be
/// set is logged, since the network may work without.
pub fn prepare() {
    for (name, value) in SETTINGS {
        let path = Path::new("/proc/sys").join(name);
        if !path.exists() {
            continue;
        }
        if let Err(e) = std::fs::write(&path, value) {
            tracing::warn!(setting = name, value, error = %e, "cannot be set");
        }
    }
}
