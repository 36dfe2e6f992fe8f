//! The pods of a job, made from its template.

use super::failure::Verdict;
use super::pods::TRACKING;
use super::round::Round;
use crate::template::{announce_create, pod};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Action, create as create_action};

/// Annotation and label of a pod's index.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The variable that tells containers the index.
const VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// A generated name's prefix, so that the name fits a label.
const PREFIX_MAX: usize = 58;

/// Creates a pod, for an index or for none.
pub(super) fn create(round: &Round<'_>, index: Option<u32>) -> Result<Action, Error> {
    let mut pod = pod::<Job>(round.owner, round.spec.0.template.clone());
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    if let Some(index) = index {
        give_index(round, &mut pod, index);
    }
    create_action(&pod, Some(announce_create::<Job>(round.owner)))
}

fn give_index(round: &Round<'_>, pod: &mut Pod, index: u32) {
    let (name, suffix) = (&round.owner.head.name, format!("-{index}-"));
    let stem: String = name.chars().take(PREFIX_MAX.saturating_sub(suffix.len())).collect();
    pod.metadata.generate_name = Some(stem + &suffix);
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if round.spec.per_index().is_some() {
        let (counted, ignored) = failures(round, index);
        annotations.insert(FAILURES.to_owned(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    let Some(spec) = &mut pod.spec else { return };
    spec.hostname = Some(format!("{name}-{index}"));
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(tell_index);
}

fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|e| e.name == VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..Default::default() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    env.push(EnvVar { name: VARIABLE.to_owned(), value_from: Some(source), ..EnvVar::default() });
}

/// Counted and ignored failures of an index, with that of the pod that is replaced.
fn failures(round: &Round<'_>, index: u32) -> (i32, i32) {
    let Some(replaced) = round.indexes.waiting.get(&index) else { return (0, 0) };
    let (counted, ignored) = replaced.job.failures;
    match round.verdicts.of(replaced) {
        Verdict::Ignored => (counted, ignored + 1),
        _ => (counted + 1, ignored),
    }
}
