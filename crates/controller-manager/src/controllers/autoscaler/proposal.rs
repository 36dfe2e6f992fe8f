//! Every metric proposes a size; the largest counts.

use super::calculate::{Figure, Goal, Tolerance, of_whole, per_pod, ratio};
use super::limits::whole;
use super::outcome::Outcome;
use super::target::{Target, rivals};
use crate::metrics::{Metrics, Named};
use crate::rows::PodRow;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus, HorizontalPodAutoscaler,
    MetricIdentifier, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource,
    ObjectMetricStatus, PodsMetricSource, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use kybern_api::meta::quantity::Quantity;
use kybern_client::store::Item;
use kybern_reconcile::view::{World, decode};
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// What a ratio may be off without behaviour saying otherwise.
const TOLERANCE: f64 = 0.1;

/// Everything a proposal depends on.
pub(super) struct Asked<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) stored: &'a HorizontalPodAutoscaler,
    pub(super) target: &'a Target,
    pub(super) metrics: &'a dyn Metrics,
}

/// The size that is proposed, and by which metric.
pub(super) struct Proposed {
    pub(super) size: i32,
    pub(super) metric: String,
}

/// One metric's proposal.
struct One {
    size: i32,
    name: String,
    status: MetricStatus,
}

/// Why a metric proposes nothing.
struct Mute {
    reason: &'static str,
    /// For the condition and the event.
    why: String,
    /// Before `why`, where all of an autoscaler's failures are summed up.
    prefix: String,
}

/// The largest proposal. None: there is none that may be followed; the outcome says why.
pub(super) fn propose(asked: &Asked<'_>, outcome: &mut Outcome<'_>) -> Option<Proposed> {
    let Some(pods) = selected(asked, outcome) else {
        outcome.metrics(Vec::new());
        return None;
    };
    let specs = asked.stored.spec.metrics.clone().unwrap_or_default();
    let mut best: Option<Proposed> = None;
    let mut statuses = Vec::new();
    let mut mute: Vec<Mute> = Vec::new();
    for spec in &specs {
        match one(asked, &pods, spec) {
            Ok(One { size, name, status }) => {
                statuses.push(status);
                if best.as_ref().is_none_or(|b| size > b.size) {
                    best = Some(Proposed { size, metric: name });
                }
            }
            Err(why) => mute.push(why),
        }
    }
    outcome.metrics(statuses);
    for Mute { reason, why, .. } in &mute {
        outcome.note(true, reason, why.clone());
    }
    let shrinks = best.as_ref().is_none_or(|b| b.size < asked.target.replicas);
    if let Some(first) = mute.first().filter(|_| shrinks) {
        let text = format!("the HPA was unable to compute the replica count: {}", first.why);
        outcome.set("ScalingActive", false, first.reason, text);
        let text = format!(
            "invalid metrics ({} invalid out of {}), first error is: {}{}",
            mute.len(),
            specs.len(),
            first.prefix,
            first.why
        );
        outcome.note(true, "FailedComputeMetricsReplicas", text);
        return None;
    }
    let best = best?;
    let text = format!("the HPA was able to successfully calculate a replica count from {}", best.metric);
    outcome.set("ScalingActive", true, "ValidMetricFound", text);
    Some(best)
}

/// The target's pods, if they are its alone.
fn selected<'a>(asked: &Asked<'a>, outcome: &mut Outcome<'_>) -> Option<Vec<&'a Item>> {
    let (namespace, selector) = (&asked.target.at.namespace, &asked.target.selector);
    if selector.to_string().is_empty() {
        outcome.note(true, "SelectorRequired", "selector is required".into());
        let text = "the HPA target's scale is missing a selector";
        outcome.set("ScalingActive", false, "InvalidSelector", text.into());
        return None;
    }
    let pods = asked.world.view.of::<Pod>().in_namespace(namespace);
    let pods: Vec<&Item> = pods.filter(|p| selector.matches(&*p.object.head)).collect();
    let mut claimants = rivals(asked.world.view, asked.stored, &pods);
    if claimants.is_empty() {
        return Some(pods);
    }
    let name = asked.stored.metadata.name.as_deref().unwrap_or_default();
    claimants.push(format!("{namespace}/{name}"));
    claimants.sort();
    let text = format!("pods by selector {selector} are controlled by multiple HPAs: [{}]", claimants.join(" "));
    outcome.note(true, "AmbiguousSelector", text.clone());
    outcome.set("ScalingActive", false, "AmbiguousSelector", text);
    None
}

fn one(asked: &Asked<'_>, pods: &[&Item], spec: &MetricSpec) -> Result<One, Mute> {
    let status = MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() };
    if let Some(source) = &spec.resource {
        let mute = |why| Mute {
            reason: "FailedGetResourceMetric",
            why,
            prefix: format!("failed to get {} resource metric value: ", source.name),
        };
        let (figure, name) = of_resource(asked, pods, (&source.name, None), &source.target).map_err(mute)?;
        let current = current(&figure);
        let resource = Some(ResourceMetricStatus { name: source.name.clone(), current });
        return Ok(One { size: figure.size, name, status: MetricStatus { resource, ..status } });
    }
    if let Some(source) = &spec.container_resource {
        let mute = |why| Mute {
            reason: "FailedGetContainerResourceMetric",
            why,
            prefix: format!("failed to get {} container metric value: ", source.name),
        };
        let of = (source.name.as_str(), Some(source.container.as_str()));
        let (figure, name) = of_resource(asked, pods, of, &source.target).map_err(mute)?;
        let container_resource = Some(ContainerResourceMetricStatus {
            name: source.name.clone(),
            container: source.container.clone(),
            current: current(&figure),
        });
        return Ok(One { size: figure.size, name, status: MetricStatus { container_resource, ..status } });
    }
    if let Some(source) = &spec.pods {
        let prefix = "failed to get pods metric value: ".to_owned();
        return of_pods(asked, pods, source, status).map_err(|why| Mute { reason: "FailedGetPodsMetric", why, prefix });
    }
    if let Some(source) = &spec.object {
        let prefix = "failed to get object metric value: ".to_owned();
        let mute = |why| Mute { reason: "FailedGetObjectMetric", why, prefix };
        return of_object(asked, pods, source, status).map_err(mute);
    }
    if let Some(source) = &spec.external {
        let prefix = format!("failed to get {} external metric value: ", source.metric.name);
        let mute = |why| Mute { reason: "FailedGetExternalMetric", why, prefix };
        return of_external(asked, pods, source, status).map_err(mute);
    }
    let why = format!("unknown metric source type {:?}", spec.type_);
    Err(Mute { reason: "InvalidMetricSourceType", why, prefix: String::new() })
}

/// CPU shows by figures in the first minutes that are those of the start.
fn is_cpu(resource: &str) -> bool {
    resource == "cpu"
}

fn of_resource(
    asked: &Asked<'_>,
    pods: &[&Item],
    (resource, container): (&str, Option<&str>),
    target: &MetricTarget,
) -> Result<(Figure, String), String> {
    let samples = || {
        let namespace = &asked.target.at.namespace;
        let found = asked.metrics.resource(namespace, &asked.target.selector, resource, container);
        found.map_err(|e| format!("unable to get metrics for resource {resource}: {e}"))
    };
    let size = |goal: &Goal, decoded: &[Pod], samples: &[_]| {
        per_pod(asked.world.now, asked.target.replicas, decoded, samples, goal, (tolerance(asked), is_cpu(resource)))
    };
    if let Some(average) = &target.average_value {
        let wrap = |e| format!("failed to get {resource} usage: {e}");
        let samples = samples().map_err(wrap)?;
        let decoded = decoded(pods).map_err(wrap)?;
        let figure = size(&Goal::Average(milli(average)), &decoded, &samples).map_err(wrap)?;
        return Ok((figure, format!("{resource} resource")));
    }
    let Some(utilization) = target.average_utilization else {
        let text = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
        return Err(text.into());
    };
    let wrap = |e| format!("failed to get {resource} utilization: {e}");
    let samples = samples().map_err(wrap)?;
    let decoded = decoded(pods).map_err(wrap)?;
    let requests = requests(&decoded, resource, container).map_err(wrap)?;
    let figure = size(&Goal::Utilization(utilization, requests), &decoded, &samples).map_err(wrap)?;
    Ok((figure, format!("{resource} resource utilization (percentage of request)")))
}

fn of_pods(asked: &Asked<'_>, pods: &[&Item], source: &PodsMetricSource, status: MetricStatus) -> Result<One, String> {
    let wrap = |e| format!("unable to get metric {}: {e}", source.metric.name);
    let target = source.target.average_value.as_ref().map_or(0, milli);
    let found = asked.metrics.pods(&asked.target.at.namespace, &asked.target.selector, named(&source.metric));
    let samples = found.map_err(wrap)?;
    let (replicas, decoded) = (asked.target.replicas, decoded(pods)?);
    let goal = Goal::Average(target);
    let figure = per_pod(asked.world.now, replicas, &decoded, &samples, &goal, (tolerance(asked), false))?;
    let pods = Some(PodsMetricStatus { metric: source.metric.clone(), current: current(&figure) });
    let name = format!("pods metric {}", source.metric.name);
    Ok(One { size: figure.size, name, status: MetricStatus { pods, ..status } })
}

fn of_object(
    asked: &Asked<'_>,
    pods: &[&Item],
    source: &ObjectMetricSource,
    status: MetricStatus,
) -> Result<One, String> {
    let object = &source.described_object;
    let namespace = &asked.target.at.namespace;
    let found = asked.metrics.object(namespace, object, named(&source.metric)).map_err(|e| {
        let (metric, kind, name) = (&source.metric.name, &object.kind, &object.name);
        format!("failed to get object metric: unable to get metric {metric}: {e} on {kind} {namespace}/{name}")
    })?;
    let Some((size, current)) = of_total(asked, pods, found, &source.target) else {
        return Err("invalid object metric source: neither a value target nor an average value target was set".into());
    };
    let name = format!("{} metric {}", object.kind, source.metric.name);
    let object = Some(ObjectMetricStatus { described_object: object.clone(), metric: source.metric.clone(), current });
    Ok(One { size, name, status: MetricStatus { object, ..status } })
}

fn of_external(
    asked: &Asked<'_>,
    pods: &[&Item],
    source: &ExternalMetricSource,
    status: MetricStatus,
) -> Result<One, String> {
    let metric = &source.metric;
    let selector = metric.selector.as_ref().map_or_else(|| "nil".to_owned(), |s| serde_json::json!(s).to_string());
    let found = asked.metrics.external(&asked.target.at.namespace, named(metric)).map_err(|e| {
        let text =
            format!("unable to get external metric {}/{}/{selector}: {e}", asked.target.at.namespace, metric.name);
        if source.target.average_value.is_some() {
            format!("failed to get {} external metric: {text}", metric.name)
        } else {
            format!("failed to get external metric {}: {text}", metric.name)
        }
    })?;
    let total = found.into_iter().fold(0i64, i64::saturating_add);
    let Some((size, current)) = of_total(asked, pods, total, &source.target) else {
        return Err("invalid external metric source: neither a value target nor an average value target was set".into());
    };
    let name = format!("external metric {}({selector})", metric.name);
    let external = Some(ExternalMetricStatus { metric: metric.clone(), current });
    Ok(One { size, name, status: MetricStatus { external, ..status } })
}

/// The size for one figure of the whole target: against a value, or shared among the pods.
fn of_total(asked: &Asked<'_>, pods: &[&Item], total: i64, target: &MetricTarget) -> Option<(i32, MetricValueStatus)> {
    let (replicas, tolerance) = (asked.target.replicas, tolerance(asked));
    if let Some(value) = &target.value {
        let ready = pods.iter().filter(|p| p.row::<PodRow>().is_some_and(|r| r.ready)).count();
        let ready = i32::try_from(ready).unwrap_or(i32::MAX);
        let size = of_whole(replicas, ready, ratio(total, milli(value)), tolerance);
        return Some((size, MetricValueStatus { value: Some(amount(total)), ..MetricValueStatus::default() }));
    }
    let each = milli(target.average_value.as_ref()?);
    let present = asked.target.present;
    let wanted = ratio(total, each);
    let off = wanted / f64::from(present);
    let size = if present != 0 && tolerance.forgives(off) { present } else { whole(wanted.ceil()) };
    let average = if present == 0 { total } else { total.div_euclid(i64::from(present)) };
    Some((size, MetricValueStatus { average_value: Some(amount(average)), ..MetricValueStatus::default() }))
}

fn tolerance(asked: &Asked<'_>) -> Tolerance {
    let behavior = asked.stored.spec.behavior.as_ref();
    let of = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
        rules.and_then(|r| r.tolerance.as_ref()).map_or(TOLERANCE, |t| ratio(milli(t), 1000))
    };
    Tolerance {
        up: of(behavior.and_then(|b| b.scale_up.as_ref())),
        down: of(behavior.and_then(|b| b.scale_down.as_ref())),
    }
}

fn decoded(pods: &[&Item]) -> Result<Vec<Pod>, String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    pods.iter().map(|p| decode(p).map_err(|e| e.to_string())).collect()
}

/// What every pod (or one container of each) requests, in thousandths.
fn requests(pods: &[Pod], resource: &str, only: Option<&str>) -> Result<BTreeMap<SmolStr, i64>, String> {
    let mut all = BTreeMap::new();
    for pod in pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let spec = pod.spec.clone().unwrap_or_default();
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let mut sum = 0i64;
        for container in spec.containers.iter().chain(sidecars).filter(|c| only.is_none_or(|o| o == c.name)) {
            let request = request(container, resource).ok_or_else(|| {
                format!("missing request for {resource} in container {} of Pod {name}", container.name)
            })?;
            sum = sum.saturating_add(request);
        }
        all.insert(SmolStr::new(name), sum);
    }
    Ok(all)
}

fn request(container: &Container, resource: &str) -> Option<i64> {
    container.resources.as_ref()?.requests.as_ref()?.get(resource).map(milli)
}

fn named(metric: &MetricIdentifier) -> Named<'_> {
    Named { name: &metric.name, selector: metric.selector.as_ref() }
}

fn milli(amount: &Amount) -> i64 {
    amount.0.parse::<Quantity>().map_or(0, Quantity::milli)
}

fn amount(milli: i64) -> Amount {
    Amount(Quantity::from_milli(milli).to_string())
}

fn current(figure: &Figure) -> MetricValueStatus {
    MetricValueStatus {
        average_utilization: figure.utilization,
        average_value: Some(amount(figure.average)),
        value: None,
    }
}
