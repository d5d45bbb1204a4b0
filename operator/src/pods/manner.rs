//! When a pod may be replaced that works: what `spec.update` says of it. Pure.

use crds::{Update, UpdateStrategy, UpdateWindow, Weekday};
use jiff::{Span, Timestamp, civil, tz::TimeZone};

/// How long a pod must be Ready after it was replaced, unless the spec says another.
const STABLE_SECONDS: i32 = 15;

/// What `spec.update` says at some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Who decides.
    pub strategy: UpdateStrategy,
    /// Nothing is replaced.
    pub paused: bool,
    /// So many are.
    pub canary: Option<i32>,
    /// How long a pod must be Ready before the next goes.
    pub stable_seconds: i64,
    /// When the next window opens, where none is open.
    pub opens: Option<Timestamp>,
}

impl Manner {
    /// What `update` says at `now`.
    pub fn of(update: &Update, now: Timestamp) -> Self {
        let Update { strategy, paused, canary, min_stable_seconds, windows, profile_version: _ } = update;
        Self {
            strategy: strategy.unwrap_or_default(),
            paused: *paused,
            canary: *canary,
            stable_seconds: i64::from(min_stable_seconds.unwrap_or(STABLE_SECONDS)),
            opens: opens(windows, now),
        }
    }

    /// Why no pod may be replaced, not even one that is broken.
    pub fn forbids_all(&self) -> Option<String> {
        if self.paused {
            return Some("update.paused is true: set it to false to go on".to_owned());
        }
        (self.strategy == UpdateStrategy::OnDelete)
            .then(|| "update.strategy is OnDelete: a pod is made anew when somebody deletes it".to_owned())
    }

    /// Why no pod may be replaced that works, when so many are new.
    pub fn forbids_healthy(&self, new: usize) -> Option<String> {
        if let Some(canary) = self.canary
            && new >= usize::try_from(canary).unwrap_or_default()
        {
            return Some(format!(
                "update.canary is {canary} and so many pods are new: raise or remove it to go on"
            ));
        }
        let opens = self.opens?;
        Some(format!("the next of update.windows opens at {opens}"))
    }
}

/// When the next window opens; nothing where one is open, or where there is none.
fn opens(windows: &[UpdateWindow], now: Timestamp) -> Option<Timestamp> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let mut next = None;
    for window in windows {
        // One that opened yesterday may be open still.
        for days in -1..=7 {
            let (Ok(day), Some(from)) = (today.checked_add(Span::new().days(days)), time(&window.from))
            else {
                continue;
            };
            if !window.days.is_empty() && !window.days.contains(&weekday(day.weekday())) {
                continue;
            }
            let Ok(from) = day.to_datetime(from).to_zoned(TimeZone::UTC) else { continue };
            let from = from.timestamp();
            if from > now {
                next = Some(next.map_or(from, |next: Timestamp| next.min(from)));
            } else if now.duration_since(from).as_hours() < i64::from(window.hours) {
                return None;
            }
        }
    }
    next
}

fn time(text: &str) -> Option<civil::Time> {
    let (hour, minute) = text.split_once(':')?;
    civil::Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn weekday(day: civil::Weekday) -> Weekday {
    match day {
        civil::Weekday::Monday => Weekday::Monday,
        civil::Weekday::Tuesday => Weekday::Tuesday,
        civil::Weekday::Wednesday => Weekday::Wednesday,
        civil::Weekday::Thursday => Weekday::Thursday,
        civil::Weekday::Friday => Weekday::Friday,
        civil::Weekday::Saturday => Weekday::Saturday,
        civil::Weekday::Sunday => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30 is a Monday.
    #[track_caller]
    fn check(update: &str, now: &str, expected: Option<&str>) {
        let update: Update = serde_yaml::from_str(update).expect("an update");
        let manner = Manner::of(&update, now.parse().expect("a time"));
        assert_eq!(manner.opens, expected.map(|time| time.parse().expect("a time")), "{update:?} at {now}");
        assert_eq!(manner.forbids_healthy(0).is_some(), expected.is_some());
    }

    #[test]
    fn a_window_is_open_from_its_time_for_its_hours_also_past_midnight() {
        let nightly = "windows: [{from: '22:00', hours: 4}]";
        check(nightly, "2026-11-30T21:59:59Z", Some("2026-11-30T22:00:00Z"));
        check(nightly, "2026-11-30T22:00:00Z", None);
        check(nightly, "2026-12-01T01:59:59Z", None);
        check(nightly, "2026-12-01T02:00:00Z", Some("2026-12-01T22:00:00Z"));
    }

    #[test]
    fn a_window_opens_on_its_days_and_of_several_the_next_counts() {
        let weekly = "windows: [{days: [Monday], from: '08:00', hours: 1}]";
        check(weekly, "2026-11-30T08:30:00Z", None);
        check(weekly, "2026-11-30T09:00:00Z", Some("2026-12-07T08:00:00Z"));
        let two = "windows: [{days: [Sunday], from: '00:00', hours: 24}, {days: [Friday, Saturday], from: '03:30', hours: 2}]";
        check(two, "2026-11-30T09:00:00Z", Some("2026-12-04T03:30:00Z"));
        check(two, "2026-12-06T23:00:00Z", None);
        check("{}", "2026-11-30T09:00:00Z", None);
    }

    #[test]
    fn a_pause_holds_everything_and_a_canary_what_works() {
        let manner = |update: &str| Manner::of(&serde_yaml::from_str(update).unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(manner("{}").forbids_all(), None);
        assert!(manner("paused: true").forbids_all().is_some());
        assert!(manner("strategy: OnDelete").forbids_all().is_some());
        assert_eq!(manner("canary: 1").forbids_all(), None);
        assert_eq!(manner("canary: 1").forbids_healthy(0), None);
        assert!(manner("canary: 1").forbids_healthy(1).is_some());
        assert_eq!(manner("{}").stable_seconds, 15);
    }
}
