//! CronJobs and times to live on a cluster whose clock is moved: the year's end seconds after its start,
//! then half an hour gone while it was off, then three hours. The machine's clock stays as it is.

use super::cluster::{Cluster, Wanted, target};
use super::leftovers::Inventory;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// So long after the start the year ends: the cluster must be up and its CronJobs made by then.
const LEAD: i64 = 30;
const SERVER: &str = "server-1";
/// What is waited for before the year's end.
const UP_IN_TIME: &str = "the cluster took longer than expected: the year had ended before its CronJobs were made";

pub(super) fn run() -> Result<()> {
    let program = build()?;
    let before = Inventory::take()?;
    let new_year = new_year()?;
    let offset = new_year - LEAD - now()?;
    let wanted = Wanted { program, clock_offset: seconds(offset), ..Wanted::new("clock")? };
    let mut cluster = Cluster::create_with(wanted)?;
    cluster.apply(&cron_jobs())?;
    ensure!(now()? + offset < new_year, UP_IN_TIME);
    yearly(&cluster)?;
    println!("    the year ended: the yearly job ran once");
    cluster.move_clock(SERVER, &seconds(offset + 35 * 60))?;
    after_half_an_hour(&cluster)?;
    println!("    half an hour off: missed starts are made up for once, or not at all where that is too late");
    cluster.move_clock(SERVER, &seconds(offset + 4 * 3600))?;
    after_hours(&cluster)?;
    println!("    hours off: too many missed starts are told, the last is made up for, old jobs are gone");
    drop(cluster);
    before.nothing_new()
}

/// A build whose clock can be moved, beside the usual one.
pub(super) fn build() -> Result<PathBuf> {
    let (usual, moved) = (target()?.join("kybern"), target()?.join("kybern-moved-clock"));
    let cargo = |more: &[&str]| -> Result<()> {
        let mut command = Command::new("cargo");
        let done = command.args(["build", "--release", "--locked", "--package", "kybern"]).args(more).status()?;
        ensure!(done.success(), "the build failed");
        Ok(())
    };
    cargo(&["--features", "moved-clock"])?;
    std::fs::copy(&usual, &moved).with_context(|| format!("cannot copy {}", usual.display()))?;
    // Puts the usual program back into its place.
    cargo(&[])?;
    Ok(moved)
}

/// What `date` says, as a number.
fn date(args: &[&str]) -> Result<i64> {
    let date = Command::new("date").arg("-u").args(args).output().context("date")?;
    Ok(String::from_utf8(date.stdout)?.trim().parse()?)
}

/// The machine's own time, in seconds since the epoch.
fn now() -> Result<i64> {
    date(&["+%s"])
}

/// When the next year begins. Later ones would be beyond the life of the cluster's certificates.
fn new_year() -> Result<i64> {
    date(&["-d", &format!("{}-01-01", date(&["+%Y"])? + 1), "+%s"])
}

fn seconds(offset: i64) -> String {
    format!("{offset}s")
}

fn cron_job(name: &str, schedule: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: batch/v1
kind: CronJob
metadata: {{ name: {name} }}
spec:
  schedule: "{schedule}"
{more}
  jobTemplate:
    spec:
      ttlSecondsAfterFinished: 7200
      template:
        spec:
          restartPolicy: Never
          containers: [{{ name: c, image: "kybern.local/web:1", command: ["/bin/true"] }}]
---"#
    )
}

fn cron_jobs() -> String {
    [
        cron_job("yearly", "0 0 1 1 *", ""),
        // Half past one in the afternoon in Auckland, where it is summer: 00:30 UTC.
        cron_job("auckland", "30 13 1 1 *", "  timeZone: Pacific/Auckland"),
        cron_job("too-late", "30 0 1 1 *", "  startingDeadlineSeconds: 60"),
        cron_job("minutely", "* * * * *", "  concurrencyPolicy: Forbid\n  suspend: true"),
    ]
    .concat()
}

/// The scheduled times of a CronJob's jobs, without the year.
fn times(cluster: &Cluster, name: &str) -> Result<Vec<String>> {
    let jobs = cluster.get(&["jobs"])?;
    let of_it = |j: &&Value| j["metadata"]["ownerReferences"][0]["name"] == name;
    let stamp = |j: &Value| {
        let annotation = &j["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"];
        annotation.as_str().and_then(|a| Some(a.split_once('-')?.1)).unwrap_or_default().to_owned()
    };
    Ok(jobs["items"].as_array().context("no list")?.iter().filter(of_it).map(stamp).collect())
}

/// Waits until a CronJob's jobs were scheduled for these times.
fn expect(cluster: &Cluster, name: &str, want: &[&str]) -> Result<()> {
    cluster.patiently(name, || {
        let times = times(cluster, name)?;
        ensure!(times == want, "jobs of {name} for {times:?}, want {want:?}");
        Ok(())
    })
}

fn yearly(cluster: &Cluster) -> Result<()> {
    expect(cluster, "yearly", &["01-01T00:00:00Z"])?;
    cluster.patiently("success", || {
        let cron = cluster.get(&["cronjob", "yearly"])?;
        let (last, ended) = (&cron["status"]["lastScheduleTime"], &cron["status"]["lastSuccessfulTime"]);
        let last = last.as_str().unwrap_or_default();
        ensure!(last.ends_with("-01-01T00:00:00Z") && ended.is_string(), "status {}", cron["status"]);
        Ok(())
    })
}

fn after_half_an_hour(cluster: &Cluster) -> Result<()> {
    expect(cluster, "auckland", &["01-01T13:30:00+13:00"])?;
    cluster.patiently("the event of a missed start", || told(cluster, "too-late", "MissSchedule"))?;
    expect(cluster, "too-late", &[])?;
    expect(cluster, "yearly", &["01-01T00:00:00Z"])
}

fn after_hours(cluster: &Cluster) -> Result<()> {
    expect(cluster, "yearly", &[])?;
    let resume = r#"{"spec": {"suspend": false}}"#;
    cluster.patiently("resume", || cluster.kubectl(&["patch", "cronjob", "minutely", "-p", resume]))?;
    cluster.patiently("the event of too many missed starts", || told(cluster, "minutely", "TooManyMissedTimes"))?;
    let made = cluster.patiently("the last missed start", || {
        let times = times(cluster, "minutely")?;
        ensure!(!times.is_empty(), "no job of minutely yet");
        Ok(times)
    })?;
    if made.len() > 2 {
        bail!("more than the last missed start is made up for: {made:?}");
    }
    Ok(())
}

fn told(cluster: &Cluster, name: &str, reason: &str) -> Result<()> {
    let of_it = format!("involvedObject.name={name},reason={reason}");
    let events = cluster.get(&["events", "--field-selector", &of_it])?;
    ensure!(events["items"].as_array().is_some_and(|l| !l.is_empty()), "no event {reason} of {name}");
    Ok(())
}
