//! When a cron job is due: which time it missed last, and which comes next.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;
use kybern_api::schedule::{self, Schedule};

/// More missed times than this are worth a warning: a clock may be wrong.
const MANY: i64 = 100;

/// A cron job's schedule and where it begins.
pub(super) struct Times {
    schedule: Schedule,
    zone: TimeZone,
    zone_name: String,
    /// Creation or, later, the last time it ran.
    begin: Timestamp,
    /// How late a job may start.
    deadline: Option<SignedDuration>,
}

/// Why there are no times: the reason of the event, and its text.
#[derive(Debug)]
pub(super) struct Unusable(pub(super) &'static str, pub(super) String);

/// The last time that has passed.
pub(super) struct Due {
    pub(super) at: Timestamp,
    /// Were very many times missed before it?
    pub(super) many_missed: bool,
}

impl Times {
    pub(super) fn of(cron: &CronJob) -> Result<Self, Unusable> {
        let spec = &cron.spec;
        let zone_name = spec.time_zone.clone().unwrap_or_default();
        let zone = schedule::zone(&zone_name)
            .map_err(|why| Unusable("UnknownTimeZone", format!("invalid timeZone: {zone_name:?}: {why}")))?;
        let schedule = Schedule::parse(&spec.schedule).map_err(|why| {
            Unusable("UnparseableSchedule", format!("unparseable schedule: {:?} : {why}", spec.schedule))
        })?;
        let last = cron.status.as_ref().and_then(|s| s.last_schedule_time.as_ref());
        let begin = last.or(cron.metadata.creation_timestamp.as_ref()).map_or(Timestamp::UNIX_EPOCH, |t| t.0);
        let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        Ok(Self { schedule, zone, zone_name, begin, deadline })
    }

    fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        self.schedule.next(at, &self.zone)
    }

    /// The last time that has passed since the cron job ran, if any.
    ///
    /// # Errors
    /// For a schedule that never comes.
    pub(super) fn due(&self, now: Timestamp) -> Result<Option<Due>, String> {
        let reach = self.deadline.and_then(|d| now.checked_sub(d).ok()).unwrap_or(self.begin);
        self.last_passed(self.begin.max(reach), now)
    }

    fn last_passed(&self, begin: Timestamp, now: Timestamp) -> Result<Option<Due>, String> {
        let never = || "time difference between two schedules is less than 1 second".to_owned();
        let first = self.next_after(begin).ok_or_else(never)?;
        if now < first {
            return Ok(None);
        }
        let second = self.next_after(first).ok_or_else(never)?;
        if now < second {
            return Ok(Some(Due { at: first, many_missed: false }));
        }
        // Not every missed time is visited: there may be years of them. The distance of the first two
        // leads near the last one, and from one distance before that it is looked for.
        let distance = second.as_second() - first.as_second();
        if distance < 1 {
            return Err(never());
        }
        let missed = (now.as_second() - first.as_second()) / distance + 1;
        let near = first.checked_add(SignedDuration::from_secs((missed - 2) * distance)).map_err(|e| e.to_string())?;
        let mut last = None;
        let mut at = self.next_after(near);
        while let Some(passed) = at.filter(|at| *at <= now) {
            last = Some(passed);
            at = self.next_after(passed);
        }
        Ok(last.map(|at| Due { at, many_missed: missed > MANY }))
    }

    /// When the cron job is due next.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.last_passed(self.begin, now).ok().flatten().map_or(self.begin, |due| due.at);
        self.next_after(last)
    }

    /// Is it too late to start the job of `at`?
    pub(super) fn is_too_late(&self, at: Timestamp, now: Timestamp) -> bool {
        self.deadline.is_some_and(|d| at.checked_add(d).is_ok_and(|latest| latest < now))
    }

    /// A time as the annotation of a job shows it, in the cron job's zone.
    pub(super) fn shown(&self, at: Timestamp) -> String {
        if self.zone_name.is_empty() {
            return at.to_string();
        }
        let offset = self.zone.to_offset(at);
        if offset.is_zero() { at.to_string() } else { at.display_with_offset(offset).to_string() }
    }
}
