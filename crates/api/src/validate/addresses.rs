//! IP addresses and ranges of them.

use super::Field;
use crate::kind::Causes;
use std::net::IpAddr;

/// Text for what is no address.
const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
/// Text for what is no range.
const NO_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Demands an IP address.
pub fn ip(address: &Field<'_, '_>, out: &mut Causes) {
    if address.text().parse::<IpAddr>().is_err() {
        address.invalid_value(&address.text().into(), NO_ADDRESS, out);
    }
}

/// Demands a range of addresses.
pub fn cidr(range: &Field<'_, '_>, out: &mut Causes) {
    if range.text().parse::<ipnet::IpNet>().is_err() {
        range.invalid_value(&range.text().into(), NO_RANGE, out);
    }
}

/// Refuses the addresses that mean something else on every machine: traffic sent there by a Service would
/// reach what listens for its own machine only.
pub fn not_special(address: &Field<'_, '_>, out: &mut Causes) {
    if let Some(why) = address.text().parse().ok().and_then(special) {
        address.invalid(&why, out);
    }
}

/// Why an address cannot be an endpoint; None when it can.
pub fn special(address: IpAddr) -> Option<String> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let link_local_multicast = match address {
        IpAddr::V4(v4) => matches!(v4.octets(), [224, 0, 0, _]),
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    if address.is_unspecified() {
        Some(format!("may not be unspecified ({address})"))
    } else if address.is_loopback() {
        Some("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned())
    } else if link_local {
        Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned())
    } else if link_local_multicast {
        Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_machine_are_special() {
        let why = |address: &str| special(address.parse().expect("an address"));
        for (address, word) in [
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
            ("127.9.9.9", "loopback"),
            ("::1", "loopback"),
            ("169.254.1.1", "link-local range"),
            ("fe80::1", "link-local range"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
        ] {
            assert!(why(address).is_some_and(|w| w.contains(word)), "{address}");
        }
        for address in ["10.0.0.1", "224.0.1.1", "2001:db8::1", "ff05::1"] {
            assert_eq!(why(address), None, "{address}");
        }
    }
}
