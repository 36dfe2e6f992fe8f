//! Probes and lifecycle hooks: what is called in a running container.

use super::Field;
use crate::kind::Causes;
use crate::meta::names;
use crate::signals::STOP_SIGNALS;

/// Checks the probes and hooks of a container. `termination_grace` of a readiness probe means nothing
/// and is refused.
pub(super) fn container(c: &Field<'_, '_>, out: &mut Causes) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = c.field(name);
        if probe.present() {
            check(&probe, name == "readinessProbe", out);
        }
    }
    let lifecycle = c.field("lifecycle");
    for hook in ["postStart", "preStop"] {
        let hook = lifecycle.field(hook);
        if hook.present() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], out);
        }
    }
}

/// Checks the signal that ends a container, in a pod for this operating system.
pub(super) fn stop_signal(c: &Field<'_, '_>, os: &str, out: &mut Causes) {
    let lifecycle = c.field("lifecycle");
    let signal = lifecycle.field("stopSignal");
    match os {
        _ if !signal.present() => {}
        "" => signal.forbidden("may not be set for containers with empty `spec.os.name`", out),
        "windows" => signal.one_of(&["SIGKILL", "SIGTERM"], out),
        _ => signal.one_of(&STOP_SIGNALS, out),
    }
}

fn check(probe: &Field<'_, '_>, readiness: bool, out: &mut Causes) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], out);
    for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        probe.field(key).not_negative(out);
    }
    let (grace, success) = (probe.field("terminationGracePeriodSeconds"), probe.field("successThreshold"));
    if readiness {
        if grace.present() {
            grace.invalid("must not be set for readinessProbes", out);
        }
        return;
    }
    if success.int().is_some_and(|n| n != 1) {
        success.invalid("must be 1", out);
    }
    if grace.int().is_some_and(|n| n <= 0) {
        grace.invalid("must be greater than 0", out);
    }
}

fn handler(holder: &Field<'_, '_>, kinds: &[&str], out: &mut Causes) {
    let mut given = kinds.iter().map(|k| holder.field(k)).filter(Field::present).peekable();
    if given.peek().is_none() {
        return holder.required("must specify a handler type", out);
    }
    given.skip(1).for_each(|extra| extra.forbidden("may not specify more than 1 handler type", out));
    if holder.field("exec").present() && holder.field("exec").field("command").is_empty() {
        holder.field("exec").field("command").required("", out);
    }
    let get = holder.field("httpGet");
    if get.present() {
        get.field("path").demand(out);
        port(&get.field("port"), out);
        get.field("scheme").one_of(&["HTTP", "HTTPS"], out);
        for header in get.field("httpHeaders").items() {
            header.field("name").checked(header_name, out);
        }
    }
    let socket = holder.field("tcpSocket");
    if socket.present() {
        port(&socket.field("port"), out);
    }
    let grpc = holder.field("grpc");
    if grpc.present() {
        port(&grpc.field("port"), out);
    }
    holder.field("sleep").field("seconds").not_negative(out);
}

fn header_name(name: &str) -> Vec<String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if name.bytes().all(legal) {
        return Vec::new();
    }
    vec![
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"
            .to_owned(),
    ]
}

/// Checks a port by number or by name.
pub fn port(port: &Field<'_, '_>, out: &mut Causes) {
    match port.int() {
        Some(number) => port.invalid_each(names::port_number(number), out),
        None if port.present() => port.invalid_each(names::port_name(port.text()), out),
        None => port.invalid_each(names::port_number(0), out),
    }
}
