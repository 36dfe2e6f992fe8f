//! What the failure of a pod means: the job's podFailurePolicy.

use super::pods::Pod;
use super::spec::Spec;
use k8s_openapi::api::batch::v1::{PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use kybern_reconcile::Error;
use kybern_reconcile::view::decode;
use std::collections::HashMap;

/// What the first rule that matches a failed pod says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts; also where no rule matches.
    Counts,
    /// It does not count.
    Ignored,
    /// The index is not tried again.
    FailsIndex,
    /// The job fails, with this message.
    FailsJob(String),
}

/// The verdicts on failed pods that have not been counted to the end, by uid.
#[derive(Default)]
pub(super) struct Verdicts<'a>(HashMap<&'a str, Verdict>);

impl<'a> Verdicts<'a> {
    /// Judges the pods. Those of a job without a policy all count, and are not even decoded.
    pub(super) fn judge(spec: Spec<'_>, pods: &[Pod<'a>]) -> Result<Self, Error> {
        let Some(policy) = &spec.0.pod_failure_policy else { return Ok(Self::default()) };
        let mut verdicts = HashMap::new();
        for pod in pods.iter().filter(|p| p.is_tracked() && p.has_failed(&spec)) {
            verdicts.insert(pod.uid(), verdict(&policy.rules, &decode(pod.item)?));
        }
        Ok(Self(verdicts))
    }
    pub(super) fn of(&self, pod: &Pod<'_>) -> &Verdict {
        self.0.get(pod.uid()).unwrap_or(&Verdict::Counts)
    }
    pub(super) fn counts(&self, pod: &Pod<'_>) -> bool {
        *self.of(pod) != Verdict::Ignored
    }
    /// The message of the first of the pods whose failure fails the job.
    pub(super) fn fatal(&self, pods: &[Pod<'_>]) -> Option<&str> {
        pods.iter().find_map(|p| match self.of(p) {
            Verdict::FailsJob(message) => Some(message.as_str()),
            _ => None,
        })
    }
}

fn verdict(rules: &[PodFailurePolicyRule], pod: &k8s_openapi::api::core::v1::Pod) -> Verdict {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
    let pod = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
    for (i, rule) in rules.iter().enumerate() {
        let Some(what) = matched(rule, status, &pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignored,
            "FailIndex" => Verdict::FailsIndex,
            "FailJob" => Verdict::FailsJob(format!("{what} matching {} rule at index {i}", rule.action)),
            _ => Verdict::Counts,
        };
    }
    Verdict::Counts
}

/// What of the pod matches a rule, as the job's message says it.
fn matched(rule: &PodFailurePolicyRule, status: &PodStatus, pod: &str) -> Option<String> {
    if let Some(codes) = &rule.on_exit_codes {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        let (container, code) =
            lists.into_iter().flatten().flatten().find_map(|c| Some((&c.name, matching_code(c, codes)?)))?;
        return Some(format!("Container {container} for pod {pod} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let wanted = |kind: &str, status: &str| {
        patterns.iter().any(|p| p.type_ == kind && p.status.as_deref().unwrap_or("True") == status)
    };
    let condition = status.conditions.iter().flatten().find(|c| wanted(&c.type_, &c.status))?;
    Some(format!("Pod {pod} has condition {}", condition.type_))
}

fn matching_code(container: &ContainerStatus, codes: &PodFailurePolicyOnExitCodesRequirement) -> Option<i32> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let named = codes.container_name.as_ref().is_none_or(|name| *name == container.name);
    let wanted = codes.values.contains(&code) == (codes.operator == "In");
    (code != 0 && named && wanted).then_some(code)
}
