//! Profiles that confine containers, and kernel settings of pods.

use super::field::{Field, Unique};
use super::volumes::relative;
use crate::kind::Causes;

const TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
/// Longest name of an AppArmor profile: a page, less its end.
const APP_ARMOR_NAME_MAX: usize = 4095;
/// Longest name of a sysctl.
const SYSCTL_NAME_MAX: usize = 253;
const SYSCTL_FORMAT: &str = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9]";

/// Checks the profiles that containers and pods have in common.
pub(super) fn profiles(context: &Field<'_, '_>, out: &mut Causes) {
    let seccomp = context.field("seccompProfile");
    if of_the_host(&seccomp, "seccompProfile", "seccomp", out).is_some() {
        relative(&seccomp.field("localhostProfile"), out);
    }
    let app_armor = context.field("appArmorProfile");
    if let Some(name) = of_the_host(&app_armor, "appArmorProfile", "AppArmor", out) {
        let profile = app_armor.field("localhostProfile");
        if name.trim() != name {
            profile.invalid("must not be padded with whitespace", out);
        }
        if name.trim().is_empty() {
            profile.required("must be set when AppArmor type is Localhost", out);
        } else if name.len() > APP_ARMOR_NAME_MAX {
            profile.too_long(APP_ARMOR_NAME_MAX, out);
        }
    }
}

/// The name of a profile that lies on the host, where the type says so and it is there.
fn of_the_host<'v>(profile: &Field<'_, 'v>, field: &str, system: &str, out: &mut Causes) -> Option<&'v str> {
    if !profile.present() {
        return None;
    }
    let (kind, name) = (profile.field("type"), profile.field("localhostProfile"));
    let local = kind.text() == "Localhost";
    if !kind.set() {
        kind.required(&format!("type is required when {field} is set"), out);
    } else if !TYPES.contains(&kind.text()) {
        kind.unsupported(&TYPES, out);
    }
    if local && !name.present() {
        name.required(&format!("must be set when {system} type is Localhost"), out);
    } else if !local && name.present() {
        name.invalid(&format!("can only be set when {system} type is Localhost"), out);
    }
    (local && name.present()).then(|| name.text())
}

/// Checks the kernel settings of a pod.
pub(super) fn sysctls(list: &Field<'_, '_>, out: &mut Causes) {
    let mut seen = Unique::default();
    for sysctl in list.items() {
        let name = sysctl.field("name");
        if name.demand(out) && !(name.text().len() <= SYSCTL_NAME_MAX && is_sysctl(name.text())) {
            name.invalid(
                &format!("must have at most {SYSCTL_NAME_MAX} characters and match regex ^{SYSCTL_FORMAT}$"),
                out,
            );
        }
        seen.check(&name, out);
    }
}

/// Segments of lower-case letters, digits, `-` and `_` that begin and end with a letter or digit, between
/// dots or slashes.
fn is_sysctl(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    name.split(['.', '/']).all(|s| edge(s.chars().next()) && edge(s.chars().last()) && s.chars().all(inner))
}

#[cfg(test)]
mod tests {
    use super::is_sysctl;

    #[test]
    fn names_of_sysctls() {
        for good in ["kernel.shm_rmid_forced", "net/ipv4/ip_local_port_range", "a", "net.ipv4.conf.eth0-1.x"] {
            assert!(is_sysctl(good), "{good}");
        }
        for bad in ["", ".", "a.", "a..b", "A.b", "a._b", "../x", "a b"] {
            assert!(!is_sysctl(bad), "{bad}");
        }
    }
}
