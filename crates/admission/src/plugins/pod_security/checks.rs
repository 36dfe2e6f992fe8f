//! Every rule: which level has it, since which version, and in which order findings are told.

use super::pod::Pod;
use super::policy::{Level, Standard};
use super::{baseline, restricted};

/// What is wrong with a pod under one rule: the reason, and which part of the pod it is about.
pub(super) struct Finding {
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

/// A rule's test; None: nothing is wrong.
pub(super) type Test = fn(&Pod<'_>) -> Option<Finding>;

struct Check {
    level: Level,
    /// The minor version from which each form of the test counts, oldest first.
    forms: &'static [(u32, Test)],
    /// The stricter rule that says the same where it counts.
    replaced_by: Option<&'static [(u32, Test)]>,
}

const fn rule(level: Level, forms: &'static [(u32, Test)]) -> Check {
    Check { level, forms, replaced_by: None }
}

const CAPABILITIES: &[(u32, Test)] = &[(22, restricted::capabilities), (25, restricted::capabilities_linux)];
const SECCOMP: &[(u32, Test)] = &[(19, restricted::seccomp), (25, restricted::seccomp_linux)];
const VOLUMES: &[(u32, Test)] = &[(0, restricted::volumes)];

/// In Kubernetes' order: by level, then by the rules' names.
const CHECKS: &[Check] = &[
    rule(Level::Baseline, &[(0, baseline::app_armor)]),
    Check { replaced_by: Some(CAPABILITIES), ..rule(Level::Baseline, &[(0, baseline::capabilities)]) },
    rule(Level::Baseline, &[(0, baseline::host_namespaces)]),
    Check { replaced_by: Some(VOLUMES), ..rule(Level::Baseline, &[(0, baseline::host_paths)]) },
    rule(Level::Baseline, &[(0, baseline::host_ports)]),
    rule(Level::Baseline, &[(34, baseline::probe_hosts)]),
    rule(Level::Baseline, &[(0, baseline::privileged)]),
    rule(Level::Baseline, &[(0, baseline::proc_mount)]),
    rule(Level::Baseline, &[(0, baseline::se_linux), (31, baseline::se_linux_with_engines)]),
    Check {
        replaced_by: Some(SECCOMP),
        ..rule(Level::Baseline, &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)])
    },
    rule(
        Level::Baseline,
        &[
            (0, baseline::sysctls_v0),
            (27, baseline::sysctls_v27),
            (29, baseline::sysctls_v29),
            (32, baseline::sysctls_v32),
        ],
    ),
    rule(Level::Baseline, &[(0, baseline::windows_host_process)]),
    rule(Level::Restricted, &[(8, restricted::privilege_escalation), (25, restricted::privilege_escalation_linux)]),
    rule(Level::Restricted, CAPABILITIES),
    rule(Level::Restricted, VOLUMES),
    rule(Level::Restricted, &[(0, restricted::run_as_non_root)]),
    rule(Level::Restricted, &[(23, restricted::run_as_user)]),
    rule(Level::Restricted, SECCOMP),
];

/// The form of a test that counts in a version.
fn form(forms: &[(u32, Test)], minor: u32) -> Option<Test> {
    forms.iter().rev().find(|(since, _)| *since <= minor).map(|(_, test)| *test)
}

fn findings<'a>(standard: &'a Standard, pod: &'a Pod<'_>) -> impl Iterator<Item = Finding> + 'a {
    let (level, minor) = (standard.level, standard.minor());
    CHECKS
        .iter()
        .filter(move |check| check.level <= level && level != Level::Privileged)
        .filter(move |check| {
            level != Level::Restricted || check.replaced_by.is_none_or(|stricter| form(stricter, minor).is_none())
        })
        .filter_map(move |check| form(check.forms, minor)?(pod))
}

/// Everything wrong with a pod, as `reason (detail)`.
pub(super) fn evaluate(standard: &Standard, pod: &Pod<'_>) -> Vec<String> {
    let say =
        |f: Finding| if f.detail.is_empty() { f.reason.to_owned() } else { format!("{} ({})", f.reason, f.detail) };
    findings(standard, pod).map(say).collect()
}

/// The same without details.
pub(super) fn reasons(standard: &Standard, pod: &Pod<'_>) -> Vec<String> {
    findings(standard, pod).map(|f| f.reason.to_owned()).collect()
}
