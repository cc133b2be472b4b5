//! Decimal numbers as JSON writes them (`1.25e-06`), read digit by digit into whole parts of a dollar. Never through a float.

use crate::units::{NanoUsd, PicoUsdPerToken};

/// No price per token is more than a dollar, none per piece more than a million. A larger number is a slip of the pen.
const MOST_TOKEN: i128 = 1_000_000_000_000;
const MOST_PIECE: i128 = 1_000_000_000_000_000;

/// A number and the power of ten it is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    digits: i128,
    exponent: i32,
}

/// USD for one token.
pub(super) fn per_token(text: &str) -> Result<PicoUsdPerToken, String> {
    Decimal::read(text)?.scaled(12, MOST_TOKEN).map(PicoUsdPerToken)
}

/// USD for a million tokens.
pub(super) fn per_million(text: &str) -> Result<PicoUsdPerToken, String> {
    Decimal::read(text)?.scaled(6, MOST_TOKEN).map(PicoUsdPerToken)
}

/// USD for one piece.
pub(super) fn per_piece(text: &str) -> Result<NanoUsd, String> {
    Decimal::read(text)?.scaled(9, MOST_PIECE).map(NanoUsd)
}

/// A rate so many times over, rounded up.
pub(super) fn times(PicoUsdPerToken(rate): PicoUsdPerToken, text: &str) -> Result<PicoUsdPerToken, String> {
    const PARTS: i128 = 1_000_000;
    let factor = i128::from(Decimal::read(text)?.scaled(6, 1000 * PARTS)?);
    let product = (i128::from(rate) * factor + PARTS - 1) / PARTS;
    i64::try_from(product).map(PicoUsdPerToken).map_err(|_| "is too much".to_owned())
}

// === impl Decimal ===

impl Decimal {
    fn read(text: &str) -> Result<Decimal, String> {
        let wrong = || "is not a price".to_owned();
        if text.starts_with('-') {
            return Err("is less than nothing".to_owned());
        }
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i32>().map_err(|_| wrong())?),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let are_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) || number.ends_with('.') {
            return Err(wrong());
        }
        let fraction = fraction.trim_end_matches('0');
        // 1e-300 is as good as nothing, and nothing is something else
        if whole.len() + fraction.len() > 30 || !(-60..=30).contains(&exponent) {
            return Err("has more digits than a price".to_owned());
        }
        let digits = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
        let places = i32::try_from(fraction.len()).map_err(|_| wrong())?;
        Ok(Decimal { digits, exponent: exponent - places })
    }

    /// In so many decimal places. What a float has lost in the last of its 16 digits is put right; a finer number is refused.
    fn scaled(self, places: i32, most: i128) -> Result<i64, String> {
        let too_much = || "is more than any price".to_owned();
        if self.digits == 0 {
            return Ok(0);
        }
        let shift = self.exponent + places;
        let power = |n: i32| u32::try_from(n).ok().and_then(|n| 10i128.checked_pow(n));
        let value = if shift >= 0 {
            power(shift).and_then(|factor| self.digits.checked_mul(factor)).ok_or_else(too_much)?
        } else {
            let finer = || format!("is finer than 1e-{places} dollars");
            let divisor = power(-shift).ok_or_else(finer)?;
            let nearest = self.digits.checked_add(divisor / 2).ok_or_else(too_much)? / divisor;
            let off = nearest.checked_mul(divisor).ok_or_else(too_much)?.abs_diff(self.digits);
            if off.saturating_mul(1_000_000_000_000) > self.digits.unsigned_abs() {
                return Err(finer());
            }
            nearest
        };
        if value > most {
            return Err(too_much());
        }
        i64::try_from(value).map_err(|_| too_much())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_float_s_text_becomes_an_exact_rate() {
        for (text, pico) in [
            ("1.25e-06", 1_250_000),
            ("1.5e-07", 150_000),
            ("0.00000015", 150_000),
            ("1.875e-08", 18_750),
            ("5.46875e-07", 546_875),
            ("3E-6", 3_000_000),
            ("0", 0),
            ("0.0", 0),
            ("0e0", 0),
            ("1", 1_000_000_000_000),
            // floats that lost their last digit
            ("1.0000000000000002e-07", 100_000),
            ("7.999999999999999e-08", 80_000),
            ("3.0000000000000004e-06", 3_000_000),
        ] {
            assert_eq!(per_token(text), Ok(PicoUsdPerToken(pico)), "{text}");
        }
        for text in [
            "",
            "-1e-06",
            "1.2.3",
            ".5",
            "5.",
            "1e",
            "1e-",
            "e5",
            "NaN",
            "Infinity",
            "0x1",
            "1 ",
            "1e-13",
            "1.23e-11",
            "1e400",
            "2",
            "1e-400",
            "123456789012345678901234567890123e-40",
            "\"1\"",
            "null",
        ] {
            assert!(per_token(text).is_err(), "{text}");
        }
        assert_eq!(per_million("2.5"), Ok(PicoUsdPerToken(2_500_000)));
        assert_eq!(per_million("0.01875"), Ok(PicoUsdPerToken(18_750)));
        assert_eq!(per_million("0.30000000000000004"), Ok(PicoUsdPerToken(300_000)));
        assert_eq!(per_piece("0.035"), Ok(NanoUsd(35_000_000)));
        assert_eq!(per_piece("6.558e-05"), Ok(NanoUsd(65_580)));
        assert_eq!(times(PicoUsdPerToken(5_000_000), "6.0"), Ok(PicoUsdPerToken(30_000_000)));
        assert_eq!(times(PicoUsdPerToken(3), "1.1"), Ok(PicoUsdPerToken(4)));
    }

    proptest! {
        #[test]
        fn any_text_is_a_price_or_an_error_and_never_a_panic(text in "[0-9.eE+-]{0,48}|\\PC{0,12}") {
            let _ = (per_token(&text), per_million(&text), per_piece(&text), times(PicoUsdPerToken(i64::MAX), &text));
        }

        #[test]
        fn what_a_float_prints_is_read_back(pico in 0i64..1_000_000_000) {
            // as Python and JavaScript write it: the shortest text that is this float
            let text = format!("{:e}", pico as f64 / 1e12);
            prop_assert_eq!(per_token(&text), Ok(PicoUsdPerToken(pico)), "{}", text);
        }
    }
}
