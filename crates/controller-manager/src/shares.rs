//! Numbers of pods, given as such or as a share of the whole.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a share that is no whole number goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// To the next higher number.
    Up,
    /// To the next lower number.
    Down,
}

/// The number, or the share of `total`. What is no percentage (validation refuses it) reads as 0.
pub(crate) fn share(value: &IntOrString, total: i32, round: Round) -> i32 {
    let percent = match value {
        IntOrString::Int(n) => return (*n).max(0),
        IntOrString::String(s) => s.trim_end_matches('%').parse::<i64>().unwrap_or(0),
    };
    let scaled = i64::from(total.max(0)).saturating_mul(percent.max(0));
    let rounded = match round {
        Round::Up => scaled.saturating_add(99) / 100,
        Round::Down => scaled / 100,
    };
    i32::try_from(rounded).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_round_as_asked_and_never_overflow() {
        let percent = |s: &str| IntOrString::String(s.into());
        assert_eq!(share(&percent("25%"), 3, Round::Up), 1);
        assert_eq!(share(&percent("25%"), 3, Round::Down), 0);
        assert_eq!(share(&percent("100%"), 7, Round::Down), 7);
        assert_eq!(share(&IntOrString::Int(2), 7, Round::Down), 2);
        assert_eq!(share(&IntOrString::Int(-2), 7, Round::Down), 0);
        assert_eq!(share(&percent("200%"), i32::MAX, Round::Up), i32::MAX);
        assert_eq!(share(&percent("9223372036854775807%"), i32::MAX, Round::Up), i32::MAX);
        assert_eq!(share(&percent("much"), 7, Round::Up), 0);
    }
}
