//! What the kinds of this group share.

use crate::kind::Causes;
use crate::meta::names;
use crate::validate::Field;
use crate::validate::field::Unique;

/// Keys of parameters.
const PARAMETERS_MAX: usize = 512;
/// Keys and values of parameters together, in bytes.
const PARAMETERS_SIZE_MAX: usize = 256 * 1024;
/// Shortest and longest life of a token that a driver asks for, in seconds.
const TOKEN_LIFE: std::ops::RangeInclusive<i64> = 600..=1 << 32;

/// Demands the name of what makes volumes: a qualified name, in any case.
pub(super) fn provisioner(name: &Field<'_, '_>, out: &mut Causes) {
    if name.demand(out) {
        name.invalid_each(names::qualified_name(&name.text().to_ascii_lowercase()), out);
    }
}

/// Demands the name of a volume driver.
pub(super) fn driver(name: &Field<'_, '_>, out: &mut Causes) {
    name.demand(out);
    if name.text().len() > names::LABEL_MAX {
        name.too_long(names::LABEL_MAX, out);
    }
    for problem in names::subdomain(&name.text().to_ascii_lowercase()) {
        name.invalid_value(&name.text().into(), &problem, out);
    }
}

/// Checks number and size of parameters.
pub(super) fn parameters(map: &Field<'_, '_>, may_be_empty: bool, out: &mut Causes) {
    if map.len() > PARAMETERS_MAX {
        return map.too_long(PARAMETERS_MAX, out);
    }
    if map.is_empty() && !may_be_empty {
        return map.required("must contain at least one key/value pair", out);
    }
    let mut size = 0;
    for (key, value) in map.entries() {
        if key.is_empty() {
            map.invalid_value(&"".into(), "field can not be empty.", out);
        }
        size += key.len() + value.text().len();
    }
    if size > PARAMETERS_SIZE_MAX {
        map.too_long(PARAMETERS_SIZE_MAX, out);
    }
}

/// Checks the topologies that a class is allowed to make volumes in.
pub(super) fn topologies(terms: &Field<'_, '_>, out: &mut Causes) {
    for term in terms.items() {
        let mut keys = Unique::default();
        for requirement in term.field("matchLabelExpressions").items() {
            let (key, values) = (requirement.field("key"), requirement.field("values"));
            if values.is_empty() {
                values.required("", out);
            }
            let mut seen = Unique::default();
            values.items().for_each(|value| seen.check(&value, out));
            for problem in names::qualified_name(key.text()) {
                key.invalid_value(&key.text().into(), &problem, out);
            }
            keys.check(&key, out);
        }
    }
}

/// Checks the tokens that a driver asks for: one for each audience.
pub(super) fn token_requests(requests: &Field<'_, '_>, out: &mut Causes) {
    let mut audiences: Vec<&str> = Vec::new();
    for request in requests.items() {
        let (audience, life) = (request.field("audience"), request.field("expirationSeconds"));
        if audiences.contains(&audience.text()) {
            audience.instead(&audience.text().into()).duplicate(out);
            continue;
        }
        audiences.push(audience.text());
        match life.int() {
            Some(n) if n < *TOKEN_LIFE.start() => life.invalid("may not specify a duration less than 10 minutes", out),
            Some(n) if n > *TOKEN_LIFE.end() => {
                life.invalid("may not specify a duration larger than 2^32 seconds", out);
            }
            _ => {}
        }
    }
}
