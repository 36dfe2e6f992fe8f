//! The leader's Lease, taken over at once by each new term.
//!
//! Kybern's controllers run on the server that leads Raft: the term decides who leads, and the store
//! refuses writes of a term that has passed. The Lease is what others read; it is written once per
//! term, so an idle cluster makes no lease writes for it.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kybern_api::error::{Reason, Status};
use kybern_client::typed;
use kybern_client::write::{At, Writer};

/// Writes `holder` into the Lease `namespace/name`, whoever held it before.
///
/// # Errors
/// The server's Status; a conflict is tried again against the fresh object.
pub async fn take_over(
    writer: &Writer,
    namespace: &str,
    name: &str,
    holder: &str,
    now: jiff::Timestamp,
) -> Result<(), Status> {
    let resource = typed::resource::<Lease>();
    loop {
        let found = writer.transport().get(&resource, namespace, name).await;
        let (held, exists) = match found {
            Ok(object) => (object.view::<Lease>().map_err(|e| Status::internal(e.to_string()))?, true),
            Err(status) if status.reason == Reason::NotFound => (empty(namespace, name), false),
            Err(status) => return Err(status),
        };
        let lease = typed::tree(&taken(held, holder, now)).map_err(|e| Status::internal(e.to_string()))?;
        let at = |name| At { resource: &resource, namespace, name, subresource: "" };
        let written = if exists { writer.update(at(name), &lease).await } else { writer.create(at(""), &lease).await };
        match written {
            Ok(_) => return Ok(()),
            Err(s) if matches!(s.reason, Reason::Conflict | Reason::AlreadyExists | Reason::NotFound) => {}
            Err(status) => return Err(status),
        }
    }
}

fn empty(namespace: &str, name: &str) -> Lease {
    let metadata = ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() };
    Lease { metadata, spec: None }
}

fn taken(mut lease: Lease, holder: &str, now: jiff::Timestamp) -> Lease {
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if spec.holder_identity.as_deref() != Some(holder) {
        spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |n| n.saturating_add(1)));
        spec.acquire_time = Some(MicroTime(now));
        spec.holder_identity = Some(holder.into());
    }
    spec.lease_duration_seconds = Some(15);
    spec.renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_holder_counts_as_a_transition_the_same_one_does_not() {
        let t = |s| jiff::Timestamp::from_second(s).expect("time");
        let first = taken(empty("kube-system", "x"), "s1_3", t(10));
        let again = taken(first.clone(), "s1_3", t(20));
        let other = taken(again.clone(), "s2_4", t(30));
        let read = |l: &Lease| {
            let s = l.spec.clone().expect("spec");
            (s.lease_transitions, s.acquire_time.map(|t| t.0.as_second()), s.renew_time.map(|t| t.0.as_second()))
        };
        assert_eq!(read(&first), (Some(0), Some(10), Some(10)));
        assert_eq!(read(&again), (Some(0), Some(10), Some(20)));
        assert_eq!(read(&other), (Some(1), Some(30), Some(30)));
    }
}
