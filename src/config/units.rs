//! Durations, sizes, shares, prices and sums as people type them: `2m 30s`, `500ms`, `30d`, `32MB`, `64KiB`, `50%`, `2.50`. Pure; knows no
//! key.

use std::time::Duration;

use crate::units::{NanoUsd, PicoUsdPerToken};

/// No deadline of a proxy is longer than 30 days; a larger number is a slip of the pen.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// `30s`, `2m 30s`, `500ms`, `1h`; `0` alone needs no unit. The error says what to write.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("has no unit: write for example \"30s\", \"500ms\" or \"2m 30s\"".to_owned());
    }
    // jiff's "friendly" format (jiff::fmt::friendly); fractions such as 1.5s are part of it.
    let parsed = jiff::fmt::friendly::SpanParser::new().parse_unsigned_duration(text);
    match parsed {
        Ok(duration) if duration > LONGEST => Err("is longer than 30 days (720h)".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("is not a duration: write for example \"30s\", \"500ms\" or \"2m 30s\"".to_owned()),
    }
}

/// Bytes: `10MB` is 10,000,000, `64KiB` is 65,536, a plain number counts bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("b", 1),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
    ];
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let unit = unit.trim().to_ascii_lowercase();
    let wrong = || "is not a size: write for example \"10MB\", \"64KiB\" or a number of bytes".to_owned();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(wrong)?;
    let number: u64 = match number.parse() {
        Ok(number) => number,
        Err(_) if number.is_empty() => return Err(wrong()),
        Err(_) => return Err("is too large".to_owned()),
    };
    number.checked_mul(factor).filter(|bytes| *bytes <= 1 << 50).ok_or_else(|| "is too large".to_owned())
}

/// `50%` or `50`: 0 to 100.
pub(super) fn percent(text: &str) -> Result<u8, String> {
    let text = text.trim();
    let digits = text.strip_suffix('%').unwrap_or(text).trim_end();
    match digits.parse::<u8>() {
        Ok(share) if share <= 100 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(share),
        _ => Err("is not a share: write a whole number from 0% to 100%".to_owned()),
    }
}

/// US dollars per million tokens, `2.5` or `0.075`: read as decimal digits, so that nothing is rounded.
pub(super) fn price(text: &str) -> Result<PicoUsdPerToken, String> {
    /// A dollar per token. Nobody asks that much; a larger number is a slip of the pen.
    const MOST: i64 = 1_000_000;
    let text = text.trim();
    if text.starts_with('-') {
        return Err("is less than nothing: write US dollars per million tokens, for example 2.50".to_owned());
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err("is not a price: write US dollars per million tokens, for example 2.50".to_owned());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 6 {
        return Err("has more than six decimals: write US dollars per million tokens, not per token".to_owned());
    }
    let micro = format!("{fraction:0<6}").parse::<i64>().unwrap_or(0);
    match whole.parse::<i64>() {
        // a millionth of a dollar per million tokens is 1e-12 dollars a token
        Ok(whole) if whole < MOST || (whole == MOST && micro == 0) => Ok(PicoUsdPerToken(whole * 1_000_000 + micro)),
        Ok(_) | Err(_) => Err("is more than a dollar per token: write US dollars per million tokens".to_owned()),
    }
}

/// US dollars, `50` or `0.25`: read as decimal digits, so that nothing is rounded.
pub(super) fn dollars(text: &str) -> Result<NanoUsd, String> {
    /// A billion dollars, far below what fits into 63 bits of nano dollars.
    const MOST: i64 = 1_000_000_000;
    let text = text.trim();
    let wrong = || "is not a sum: write US dollars, for example 50 or 0.25".to_owned();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("has more than nine decimals".to_owned());
    }
    let nano = format!("{fraction:0<9}").parse::<i64>().map_err(|_| wrong())?;
    match whole.parse::<i64>() {
        Ok(whole) if whole < MOST => Ok(NanoUsd(whole * 1_000_000_000 + nano)),
        Ok(_) | Err(_) => Err("is a billion dollars or more".to_owned()),
    }
}

/// The shortest spelling that `dollars` reads back; with two decimals where there are any.
pub(super) fn show_dollars(amount: NanoUsd) -> String {
    let sign = if amount.0 < 0 { "-" } else { "" };
    let (whole, nano) = (amount.0.unsigned_abs() / 1_000_000_000, amount.0.unsigned_abs() % 1_000_000_000);
    if nano == 0 {
        return format!("{sign}{whole}");
    }
    let decimals = format!("{nano:09}");
    format!("{sign}{whole}.{:0<2}", decimals.trim_end_matches('0'))
}

/// `30d`, or a duration of an hour or more; a year at most.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let text = text.trim();
    let days = text.strip_suffix('d').map(str::trim_end).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let time = match days.map(str::parse::<u32>) {
        Some(Ok(days)) => DAY.saturating_mul(days),
        Some(Err(_)) => return Err("is not a time: write for example \"24h\" or \"30d\"".to_owned()),
        None => duration(text).map_err(|_| "is not a time: write for example \"24h\" or \"30d\"".to_owned())?,
    };
    match time {
        time if time < Duration::from_secs(3600) => Err("is shorter than an hour".to_owned()),
        time if time > DAY * 366 => Err("is longer than 366 days".to_owned()),
        time => Ok(time),
    }
}

/// The shortest spelling that `span` reads back.
pub(super) fn show_span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 86_400 && seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        _ => show_duration(time),
    }
}

/// The shortest spelling that `price` reads back.
pub(super) fn show_price(price: PicoUsdPerToken) -> String {
    let (whole, micro) = (price.0.div_euclid(1_000_000), price.0.rem_euclid(1_000_000));
    let text = format!("{whole}.{micro:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The shortest spelling that `duration` reads back: `90s`, `1500ms`, `0s`.
pub(super) fn show_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    match (seconds, nanos) {
        (_, 0) if seconds > 0 && seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        (_, 0) if seconds > 0 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        (_, 0) => format!("{seconds}s"),
        (_, n) if n.is_multiple_of(1_000_000) => format!("{}ms", duration.as_millis()),
        _ => format!("{}us", duration.as_micros()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_people_type_them() {
        for (text, millis) in
            [("30s", 30_000), ("2m 30s", 150_000), ("2m30s", 150_000), ("500ms", 500), ("1h", 3_600_000), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "-5s", "5 parsecs", "1y", "99999999999999999h", "721h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_type_them() {
        for (text, bytes) in [
            ("10MB", 10_000_000),
            ("64KiB", 65_536),
            ("1 GiB", 1 << 30),
            ("4096", 4096),
            ("0", 0),
            ("7b", 7),
            ("32mb", 32_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "-1", "1.5MB", "10 potatoes", "99999999999999999999999", "9999999TB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_whole_percents() {
        for (text, share) in [("50%", 50), ("50", 50), ("0", 0), ("100%", 100), ("7 %", 7)] {
            assert_eq!(percent(text), Ok(share), "{text}");
        }
        for text in ["", "%", "101%", "0.5", "-1", "+5", "half"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prices_are_read_to_the_last_digit() {
        for (text, pico) in [
            ("5.00", 5_000_000),
            ("0.50", 500_000),
            ("0.01875", 18_750),
            ("0.000001", 1),
            ("0.0000010", 1),
            ("0", 0),
            ("75", 75_000_000),
            // as a float it is 0.30000000000000004 when summed
            ("0.3", 300_000),
            ("1000000", 1_000_000_000_000),
        ] {
            assert_eq!(price(text), Ok(PicoUsdPerToken(pico)), "{text}");
        }
        for text in ["", ".", "5.", ".5", "-1", "-0", "1e-3", "0x1", "1,5", "$5", "0.0000001", "1000000.1", "1000001"] {
            assert!(price(text).is_err(), "{text}");
        }
        assert!(price("99999999999999999999999999").is_err());
        assert_eq!(show_price(PicoUsdPerToken(18_750)), "0.01875");
        assert_eq!(show_price(PicoUsdPerToken(5_000_000)), "5");
    }

    #[test]
    fn sums_are_read_to_the_last_digit() {
        for (text, nano) in [
            ("50", 50_000_000_000),
            ("0.25", 250_000_000),
            ("0.000000001", 1),
            ("1.50", 1_500_000_000),
            ("0", 0),
            ("999999999.999999999", 999_999_999_999_999_999),
        ] {
            assert_eq!(dollars(text), Ok(NanoUsd(nano)), "{text}");
        }
        for text in ["", ".", "5.", "-1", "$5", "1e3", "0.0000000001", "1000000000", "99999999999999999999"] {
            assert!(dollars(text).is_err(), "{text}");
        }
        for (nano, text) in
            [(1_500_000_000, "1.50"), (50_000_000_000, "50"), (1, "0.000000001"), (-20_000_000, "-0.02")]
        {
            assert_eq!(show_dollars(NanoUsd(nano)), text);
        }
    }

    #[test]
    fn times_that_are_summed_up_are_hours_or_days() {
        for (text, hours) in [("24h", 24), ("30d", 720), ("1d", 24), ("366d", 8784), ("90m", 1), ("7 d", 168)] {
            assert_eq!(span(text).map(|time| time.as_secs() / 3600), Ok(hours), "{text}");
        }
        for text in ["", "d", "30", "1m", "367d", "99999999999d", "1y", "-1d"] {
            assert!(span(text).is_err(), "{text}");
        }
        for text in ["24h", "30d", "36h"] {
            assert_eq!(show_span(span(text).unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error_and_never_a_panic(text in "\\PC{0,20}") {
            let _ = duration(&text);
            let _ = size(&text);
            let _ = percent(&text);
            let _ = price(&text);
            let _ = dollars(&text);
            let _ = span(&text);
        }

        #[test]
        fn a_shown_price_is_read_back(pico in 0i64..1_000_000_000_000) {
            prop_assert_eq!(price(&show_price(PicoUsdPerToken(pico))), Ok(PicoUsdPerToken(pico)));
        }

        #[test]
        fn a_shown_duration_is_read_back(millis in 0u64..2_592_000_000) {
            let given = Duration::from_millis(millis);
            prop_assert_eq!(duration(&show_duration(given)), Ok(given));
        }
    }
}
