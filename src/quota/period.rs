//! When a budget begins anew. Pure: the moment comes in.
//!
//! Days, weeks and months begin at midnight in the budget's time zone: a day on which clocks change has 23 or 25 hours. A rolling time is looked
//! at in [`SLICES`] slices: a sum leaves it with its whole slice, so up to a sixtieth late and never early.

use std::time::Duration;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use crate::config::quota::{Unit, Window};

pub const SLICES: i64 = 60;

/// From its first to behind its last microsecond since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub begins: i64,
    pub ends: i64,
}

/// All of time: what never begins anew.
pub const ALWAYS: Period = Period { begins: 0, ends: i64::MAX };

/// The period that `wall` is in; of a rolling time, its slice.
pub fn period(window: &Window, wall: i64) -> Period {
    match window {
        Window::Calendar { unit, zone } => calendar(*unit, zone, wall).unwrap_or(ALWAYS),
        Window::Rolling(time) => {
            let slice = slice(*time);
            let begins = wall.div_euclid(slice) * slice;
            Period { begins, ends: begins.saturating_add(slice) }
        }
        Window::Rate { .. } | Window::Now | Window::Lifetime => ALWAYS,
    }
}

/// How long a slice of a rolling time is, in microseconds.
pub fn slice(time: Duration) -> i64 {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    (micros / SLICES).max(1)
}

/// `None`: beyond the years that a calendar knows.
fn calendar(unit: Unit, zone: &jiff::tz::TimeZone, wall: i64) -> Option<Period> {
    let day = Timestamp::from_microsecond(wall).ok()?.to_zoned(zone.clone()).date();
    let (first, next) = match unit {
        Unit::Day => (day, day.tomorrow().ok()?),
        Unit::Week => {
            let back = day.weekday().to_monday_zero_offset();
            let first = day.checked_sub(back.days()).ok()?;
            (first, first.checked_add(7.days()).ok()?)
        }
        Unit::Month => {
            let first = day.first_of_month();
            (first, first.checked_add(1.month()).ok()?)
        }
    };
    let at = |date: Date| Some(date.to_zoned(zone.clone()).ok()?.timestamp().as_microsecond());
    Some(Period { begins: at(first)?, ends: at(next)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn of(unit: Unit, zone: &str, at: &str) -> (String, String) {
        let zone = TimeZone::get(zone).unwrap();
        let wall = at.parse::<Timestamp>().unwrap().as_microsecond();
        let found = period(&Window::Calendar { unit, zone }, wall);
        assert!((found.begins..found.ends).contains(&wall));
        let show = |micros| Timestamp::from_microsecond(micros).unwrap().to_string();
        (show(found.begins), show(found.ends))
    }

    #[test]
    fn days_weeks_and_months_begin_at_midnight_where_the_budget_is() {
        let cases = [
            (Unit::Day, "UTC", "2026-05-10T12:00:00Z", "2026-05-10T00:00:00Z", "2026-05-11T00:00:00Z"),
            // already the next day there
            (Unit::Day, "Asia/Tokyo", "2026-05-10T15:00:00Z", "2026-05-10T15:00:00Z", "2026-05-11T15:00:00Z"),
            (Unit::Week, "UTC", "2026-05-10T23:59:59.999999Z", "2026-05-04T00:00:00Z", "2026-05-11T00:00:00Z"),
            (Unit::Week, "UTC", "2026-05-11T00:00:00Z", "2026-05-11T00:00:00Z", "2026-05-18T00:00:00Z"),
            (Unit::Month, "Europe/Berlin", "2026-01-31T22:59:59Z", "2025-12-31T23:00:00Z", "2026-01-31T23:00:00Z"),
            (Unit::Month, "Europe/Berlin", "2026-01-31T23:00:00Z", "2026-01-31T23:00:00Z", "2026-02-28T23:00:00Z"),
            (Unit::Month, "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ];
        for (unit, zone, at, begins, ends) in cases {
            assert_eq!(of(unit, zone, at), (begins.to_owned(), ends.to_owned()), "{unit:?} {zone} {at}");
        }
    }

    #[test]
    fn a_day_on_which_clocks_change_is_as_long_as_it_is() {
        let hours = |zone: &str, at: &str| {
            let zone = TimeZone::get(zone).unwrap();
            let wall = at.parse::<Timestamp>().unwrap().as_microsecond();
            let found = period(&Window::Calendar { unit: Unit::Day, zone }, wall);
            (found.ends - found.begins) / 3_600_000_000
        };
        assert_eq!(hours("Europe/Berlin", "2026-03-29T12:00:00Z"), 23);
        assert_eq!(hours("Europe/Berlin", "2026-10-25T12:00:00Z"), 25);
        assert_eq!(hours("America/New_York", "2026-03-08T12:00:00Z"), 23);
        // where midnight itself is skipped the day begins at one
        assert_eq!(hours("America/Santiago", "2026-09-06T15:00:00Z"), 23);
        // a month over the change: 31 days less an hour
        let (begins, ends) = of(Unit::Month, "Europe/Berlin", "2026-03-15T00:00:00Z");
        assert_eq!((begins.as_str(), ends.as_str()), ("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"));
    }

    #[test]
    fn a_rolling_time_is_cut_into_slices() {
        let day = Window::Rolling(Duration::from_secs(24 * 3600));
        let found = period(&day, 100 * 3_600_000_000 + 5);
        assert_eq!(found.ends - found.begins, 24 * 60 * 1_000_000);
        assert!(found.begins <= 100 * 3_600_000_000 && found.begins % (24 * 60 * 1_000_000) == 0);
        assert_eq!(period(&Window::Lifetime, 7), ALWAYS);
    }
}
