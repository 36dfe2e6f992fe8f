//! Times as Kubernetes writes them, and the durations kubectl shows.

use jiff::Timestamp;

/// Seconds since the epoch as RFC 3339 with whole seconds, `2026-01-02T03:04:05Z`.
pub fn seconds(epoch: i64) -> String {
    Timestamp::from_second(epoch).map(|t| t.to_string()).unwrap_or_default()
}

/// A `Time`: whole seconds.
pub fn time(at: Timestamp) -> String {
    seconds(at.as_second())
}

/// A `MicroTime`: six fraction digits.
pub fn micro(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// Reads a `Time` or `MicroTime`.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Reads a time from a tree, as seconds since the epoch.
pub fn parse_value(value: Option<&serde_json::Value>) -> Option<i64> {
    value?.as_str().and_then(parse).map(Timestamp::as_second)
}

/// The age of something made at `created` (seconds since the epoch) as kubectl shows it:
/// `<unknown>` for no time, `<invalid>` for the future, else a [`human_duration`].
pub fn age(now: Timestamp, created: i64) -> String {
    if created == 0 { "<unknown>".to_owned() } else { human_duration(now.as_second() - created) }
}

/// [`age`] of a time in a tree; `missing` where there is none.
pub fn age_of(now: Timestamp, value: Option<&serde_json::Value>, missing: &str) -> String {
    parse_value(value).map_or_else(|| missing.to_owned(), |at| age(now, at))
}

/// A duration in seconds in at most two units: `45s`, `3m10s`, `25h`, `3d4h`, `400d`, `5y`.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let pair = |large: i64, l: &str, small: i64, s: &str| {
        let (a, b) = (seconds / large, seconds % large / small);
        if b == 0 { format!("{a}{l}") } else { format!("{a}{l}{b}{s}") }
    };
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..=119 => format!("{seconds}s"),
        120..=599 => pair(MINUTE, "m", 1, "s"),
        600..=10_799 => format!("{}m", seconds / MINUTE),
        10_800..=28_799 => pair(HOUR, "h", MINUTE, "m"),
        28_800..=172_799 => format!("{}h", seconds / HOUR),
        172_800..=691_199 => pair(DAY, "d", HOUR, "h"),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => pair(YEAR, "y", DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn human_durations_switch_units_where_kubectl_does() {
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (190, "3m10s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (273_600, "3d4h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (94_694_400, "3y1d"),
            (252_288_000, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds} seconds");
        }
    }

    #[test]
    fn times_have_the_digits_kubernetes_writes() {
        let at = parse("2026-01-02T03:04:05.678Z").expect("a time");
        assert_eq!(time(at), "2026-01-02T03:04:05Z");
        assert_eq!(micro(at), "2026-01-02T03:04:05.678000Z");
        assert_eq!(parse("2026-01-02T05:04:05+02:00").map(time).as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(age(at, 0), "<unknown>");
    }
}
