//! Questions as people type them: `by=model,key`, `since=7d`, `filter=team:search`. What cannot be understood is told with what to write.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::store::query::{Condition, Dimension, Period};

/// What rows are kept for, unless the configuration says otherwise.
pub const SINCE: &str = "30d";
/// Things to tell rows apart by, at once.
const MOST: usize = 6;
const DIMENSIONS: &str = "call, model, key, team, project, agent, user, provider, day, hour or tag:NAME";

/// `model,key`; nothing: all in one row.
pub fn by(text: &str) -> Result<Vec<Dimension>, String> {
    let mut by = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let dimension = dimension(name)?;
        if !by.contains(&dimension) {
            by.push(dimension);
        }
    }
    if by.len() > MOST {
        return Err(format!("by: {} at once are too many: write {MOST} at most", by.len()));
    }
    Ok(by)
}

fn dimension(name: &str) -> Result<Dimension, String> {
    Dimension::parse(name).ok_or_else(|| match name {
        "tool" => "by: no calls of tools are in the ledger yet".to_owned(),
        other => format!("by: {:?} is nothing to tell rows apart by: write {DIMENSIONS}", short(other)),
    })
}

/// `7d`, `36h`, `30m`, `2w` before now; `2026-11-01` (midnight UTC); `2026-11-01T08:00:00Z`; `now`.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    let ago = text.find(|c: char| !c.is_ascii_digit()).map(|at| text.split_at(at));
    let seconds = ago.and_then(|(number, unit)| {
        let each = match unit {
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            _ => return None,
        };
        number.parse::<i64>().ok()?.checked_mul(each)
    });
    let then = seconds.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
    let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let time = || text.parse::<Timestamp>().ok();
    // a date is read as one only when there is nothing more to it
    let found = then.or_else(|| if text.len() == 10 { day() } else { time() });
    found.ok_or_else(|| format!("{:?} is no time: write 7d, 12h, 2026-11-01 or 2026-11-01T08:00:00Z", short(text)))
}

/// `team:search`, `team=search`, `tag:cost-center:12`.
pub fn condition(text: &str) -> Result<Condition, String> {
    let separator = |c: char| c == ':' || c == '=';
    let (tag, rest) = match text.strip_prefix("tag:") {
        Some(rest) => ("tag:", rest),
        None => ("", text),
    };
    match rest.split_once(separator) {
        Some((what, is)) if !is.is_empty() => {
            let what = dimension(&format!("{tag}{}", what.trim())).map_err(|why| why.replacen("by:", "filter:", 1))?;
            Ok(Condition { what, is: is.to_owned() })
        }
        Some(_) | None => Err(format!("filter: {:?} names no value: write for example team:search", short(text))),
    }
}

/// `since`, `until` and `filter` as they were given; what was not is the last 30 days.
pub fn period<S: AsRef<str>>(
    since: Option<&str>,
    until: Option<&str>,
    filter: &[S],
    now: Timestamp,
) -> Result<Period, String> {
    let from = moment(since.unwrap_or(SINCE), now).map_err(|why| format!("since: {why}"))?;
    let to = match until {
        // what is settled at this moment counts
        None => now.checked_add(SignedDuration::from_secs(60)).unwrap_or(now),
        Some(until) => moment(until, now).map_err(|why| format!("until: {why}"))?,
    };
    if from >= to {
        return Err("since: is not before the end of the period".to_owned());
    }
    let filter = filter.iter().map(|text| condition(text.as_ref())).collect::<Result<_, _>>()?;
    Ok(Period { from, to, filter })
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_read_as_people_type_them() {
        let now = at("2026-11-21T10:00:00Z");
        for (text, time) in [
            ("7d", "2026-11-14T10:00:00Z"),
            ("2w", "2026-11-07T10:00:00Z"),
            ("36h", "2026-11-19T22:00:00Z"),
            ("30m", "2026-11-21T09:30:00Z"),
            ("now", "2026-11-21T10:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01T08:00:00+02:00", "2026-11-01T06:00:00Z"),
        ] {
            assert_eq!(moment(text, now), Ok(at(time)), "{text}");
        }
        for text in ["", "d", "7", "7y", "yesterday", "2026-13-01", "2026-11-1", "99999999999999999999d", "-7d"] {
            assert!(moment(text, now).unwrap_err().contains("write 7d"), "{text}");
        }
    }

    #[test]
    fn what_rows_are_told_apart_by_is_read_once_each() {
        assert_eq!(by(""), Ok(vec![]));
        assert_eq!(by("model, key,model"), Ok(vec![Dimension::Model, Dimension::Key]));
        assert_eq!(by("tag:x"), Ok(vec![Dimension::Tag("x".into())]));
        assert!(by("weather").unwrap_err().contains("\"weather\"") && by("tool").unwrap_err().contains("yet"));
        assert!(by("call,model,key,team,project,agent,user").is_err());
    }

    #[test]
    fn a_filter_takes_either_sign_and_a_value_may_hold_both() {
        let is = |what, is: &str| Ok(Condition { what, is: is.to_owned() });
        assert_eq!(condition("team:search"), is(Dimension::Team, "search"));
        assert_eq!(condition("team=a:b=c"), is(Dimension::Team, "a:b=c"));
        assert_eq!(condition("tag:cost=a:b"), is(Dimension::Tag("cost".into()), "a:b"));
        assert_eq!(condition("tag:team:x"), is(Dimension::Team, "x"));
        assert!(condition("team").is_err() && condition("team=").is_err());
        assert!(condition("colour=red").unwrap_err().starts_with("filter:"));
    }

    #[test]
    fn a_period_ends_after_it_begins() {
        let now = at("2026-11-21T10:00:00Z");
        let none: [&str; 0] = [];
        let whole = period(None, None, &none, now).unwrap();
        assert_eq!(whole.from, at("2026-10-22T10:00:00Z"));
        assert!(whole.to > now);
        assert!(period(Some("1d"), Some("2d"), &none, now).unwrap_err().starts_with("since:"));
        assert!(period(Some("1d"), Some("soon"), &none, now).unwrap_err().starts_with("until:"));
    }
}
